# SPDX-License-Identifier: Apache-2.0
"""The state folder is one program's at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import Conflict
from volant.volantd.opened_state import hold_lock
from volant.volantd.settings import Settings


def test_the_second_who_wants_it_is_told_of_the_first_and_may_have_it_afterwards(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    refused = pytest.raises(Conflict, match=f"another one works with {tmp_path}")
    with hold_lock(settings), refused, hold_lock(settings):
        pass
    with hold_lock(settings):
        pass
