# SPDX-License-Identifier: Apache-2.0
"""Where a client looks for a daemon; what becomes of the folder is told by `test_paths`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.contract.places import find_contexts_file, find_runtime_dir, is_private_folder


def test_a_home_of_ones_own_has_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_runtime_dir({"VOLANT_HOME": "/tmp/./here/"}) == "/tmp/here/run"
    assert find_contexts_file({"VOLANT_HOME": "here"}) == f"{tmp_path}/here/contexts.json"
    long = f"/tmp/{'x' * 100}"
    assert find_runtime_dir({"VOLANT_HOME": long}).startswith(f"/tmp/volant-{os.geteuid()}-")


def test_users_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert find_runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)}) == f"{tmp_path}/volant"
    assert find_runtime_dir({"XDG_RUNTIME_DIR": "/nowhere"}) == "/tmp/volant-1000"
    assert find_contexts_file({"HOME": "/home/u"}) == "/home/u/.config/volant/contexts.json"


def test_a_folder_is_private_if_nobody_else_can_put_a_socket_into_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not is_private_folder(str(tmp_path / "missing"))
    tmp_path.chmod(0o755)
    assert is_private_folder(str(tmp_path))
    tmp_path.chmod(0o775)
    assert not is_private_folder(str(tmp_path))
    tmp_path.chmod(0o700)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert not is_private_folder(str(tmp_path))
