# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from volant.volantd.vms.holding import is_held, mark_held, unmark_held


def test_a_held_guest_is_known_by_a_file_until_it_goes_on(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    mark_held(tmp_path)
    mark_held(tmp_path)
    assert is_held(tmp_path)
    unmark_held(tmp_path)
    unmark_held(tmp_path)
    assert not is_held(tmp_path)
