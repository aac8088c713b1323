# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import WrongState
from volant.volantd.vms.states import LEGAL_MOVES, WITH_PROCESS, VmState, check_move


def test_every_state_has_a_row_and_can_be_left() -> None:
    assert set(LEGAL_MOVES) == set(VmState)
    assert all(LEGAL_MOVES.values())


def test_only_states_with_a_process_end_in_stopped_or_failed() -> None:
    for state, targets in LEGAL_MOVES.items():
        assert (VmState.FAILED in targets) == (state in WITH_PROCESS)


def test_a_call_in_the_wrong_state_is_named() -> None:
    check_move("a", "start", VmState.FAILED, VmState.STARTING)
    with pytest.raises(WrongState, match="cannot start VM a: it is running") as caught:
        check_move("a", "start", VmState.RUNNING, VmState.STARTING)
    assert caught.value.http_status == 409
