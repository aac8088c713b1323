# SPDX-License-Identifier: Apache-2.0
"""The daemon's folders are its user's own, whoever was there first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.contract.paths import make_private_folder, make_state_folder
from volant.errors import NotPermitted


def test_a_missing_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    make_private_folder(folder)
    make_private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_of_ours_may_lead_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    make_private_folder(tmp_path / "state")


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(NotPermitted, match="not a folder of this user"):
        make_private_folder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links for others")
def test_another_users_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path)
    os.lchown(tmp_path / "run", 4711, 4711)
    with pytest.raises(NotPermitted, match="not a folder of this user"):
        make_private_folder(tmp_path / "run")


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NotPermitted, match="others may write"):
        make_private_folder(tmp_path)


def test_a_place_that_is_taken_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotPermitted, match="cannot use"):
            make_private_folder(place)


def test_a_state_folder_is_closed_whatever_came_before(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for folder in ("vms/a", "plugins", "cache/kernels"):
        (state / folder).mkdir(parents=True)
    for name in ("volant.db", "volant.db-wal", "token", "vms/a/boot.cpio", "cache/kernels/vmlinuz"):
        (state / name).touch(mode=0o664)
        (state / name).chmod(0o664)
    state.chmod(0o775)
    make_state_folder(state)
    modes = {str(path.relative_to(state)): path.stat().st_mode & 0o777 for path in state.rglob("*")}
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("volant.db", "volant.db-wal", "token", "vms/a/boot.cpio"):
        assert modes[name] == 0o600, name
    assert modes["cache/kernels/vmlinuz"] == 0o664


def test_files_in_a_closed_state_folder_are_closed_too(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "volant.db").touch()
    (tmp_path / "volant.db").chmod(0o644)
    make_state_folder(tmp_path)
    assert (tmp_path / "volant.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_another_user_may_have_put_into_the_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    (state / "volant.db").touch()
    os.chown(state / "volant.db", 4711, 4711)
    with pytest.raises(NotPermitted, match=r"volant.db is not this user's"):
        make_state_folder(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to others")
def test_a_state_folder_of_another_user_is_left_as_it_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    os.chown(state, 4711, 4711)
    with pytest.raises(NotPermitted, match="not a folder of this user"):
        make_state_folder(state)
    assert state.stat().st_mode & 0o777 == 0o755
