# SPDX-License-Identifier: Apache-2.0
"""The daemon's folders are its user's own, whoever was there first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.contract.paths import make_private_folder
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
