# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.registries.work_folders import find_cache_folder, hold_lock, make_work_folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))


def test_a_folder_goes_and_another_ones_stays() -> None:
    with make_work_folder("works") as first:
        (first / "file").touch()
        with make_work_folder("works") as second:
            assert first != second
        assert (first / "file").exists()
    assert list(find_cache_folder("works").iterdir()) == []


def test_what_a_killed_program_left_goes_with_the_next_one() -> None:
    left = find_cache_folder("works") / "0123456789ab"
    left.mkdir()
    left.with_suffix(".lock").touch()
    with make_work_folder("works"):
        assert not left.exists()
    assert list(find_cache_folder("works").iterdir()) == []


def test_a_lock_is_one_holders(tmp_path: Path) -> None:
    with hold_lock(tmp_path / "lock") as is_ours, hold_lock(tmp_path / "lock") as is_ours_too:
        assert (is_ours, is_ours_too) == (True, False)
