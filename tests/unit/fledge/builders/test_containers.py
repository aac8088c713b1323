# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.fledge.builders.containers import Podman, find_runtime_folder, is_own_folder

pytestmark = pytest.mark.usefixtures("home")


def test_a_runtime_folder_of_this_users_own_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Podman("podman").environment() == {}


def test_without_one_it_is_the_same_for_every_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid() or 4242
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(
        "volant.fledge.builders.containers.is_own_folder", lambda place: str(tmp_path) in place
    )
    folder = Podman("podman").environment()["XDG_RUNTIME_DIR"]
    assert folder == str(tmp_path / f"podman-run-{user}")
    assert os.stat(folder).st_mode & 0o777 == 0o700
    assert find_runtime_folder() == folder


def test_a_link_or_a_file_is_nobodys_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    found = [is_own_folder(str(tmp_path / name)) for name in ("", "link", "file", "gone")]
    assert found == [True, False, False, False]
    assert not is_own_folder("")
