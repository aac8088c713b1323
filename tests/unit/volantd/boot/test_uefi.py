# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import ToolMissing
from volant.volantd.boot import uefi
from volant.volantd.boot.uefi import make_variables, require_uefi


def test_variables_are_made_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, empty, own = tmp_path / "code", tmp_path / "empty", tmp_path / "vm" / "uefi-variables"
    own.parent.mkdir()
    code.touch()
    empty.write_bytes(b"empty")
    monkeypatch.setattr(uefi, "PLACES", {"amd64": (("/nowhere", "/nowhere"), (str(code), str(empty)))})
    found = require_uefi("amd64")
    assert found.code == code
    make_variables(found, own)
    own.write_bytes(b"boot order")
    make_variables(found, own)
    assert own.read_bytes() == b"boot order"
    assert own.stat().st_mode & 0o777 == 0o600


def test_a_host_without_it_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uefi, "PLACES", {"amd64": (), "arm64": ()})
    for architecture, package in (("amd64", "ovmf"), ("arm64", "qemu-efi-aarch64")):
        with pytest.raises(ToolMissing) as raised:
            require_uefi(architecture)  # type: ignore[arg-type]  # a Literal in a tuple
        assert package in raised.value.resolution
