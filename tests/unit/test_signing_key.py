# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import pytest

from support.signing_keys import make_key, seal
from volant.errors import UsageError
from volant.signing_key import open_signing_key


def test_its_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_signing_key(None) is None
    key = make_key()
    path = tmp_path / "cosign.key"
    path.write_bytes(seal(key, b"word"))
    monkeypatch.setenv("COSIGN_PASSWORD", "word")
    opened = open_signing_key(path)
    assert opened is not None
    assert opened.private_numbers() == key.private_numbers()
    monkeypatch.delenv("COSIGN_PASSWORD")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="no terminal to ask"):
        open_signing_key(path)
