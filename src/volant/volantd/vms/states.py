# SPDX-License-Identifier: Apache-2.0
"""The states of a VM and the moves between them.

created ──▶ starting ──▶ running ──▶ stopping ──▶ stopped
             ▲   │          │            │          │
             │   └──▶ failed ◀───────────┘          │
             └──────────┴───────────────────────────┘

running ◀──▶ paused: its processors stand still, and its process is there.
running ──▶ suspended ──▶ starting: its memory is on the disk, and there is no process.
"""

from __future__ import annotations

import enum

from volant.errors import WrongState


class VmState(enum.StrEnum):
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


LEGAL_MOVES: dict[VmState, frozenset[VmState]] = {
    VmState.CREATED: frozenset({VmState.STARTING}),
    # A start that is interrupted (the daemon was killed before a process existed) falls back to stopped.
    # One that was to go on from its memory, and could not yet, is as it was before.
    VmState.STARTING: frozenset(
        {VmState.RUNNING, VmState.STOPPING, VmState.FAILED, VmState.STOPPED, VmState.SUSPENDED}
    ),
    VmState.RUNNING: frozenset(
        {VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPING, VmState.STOPPED, VmState.FAILED}
    ),
    VmState.PAUSED: frozenset({VmState.RUNNING, VmState.STOPPING, VmState.STOPPED, VmState.FAILED}),
    VmState.SUSPENDED: frozenset({VmState.STARTING, VmState.STOPPED}),
    VmState.STOPPING: frozenset({VmState.STOPPED, VmState.FAILED}),
    VmState.STOPPED: frozenset({VmState.STARTING}),
    VmState.FAILED: frozenset({VmState.STARTING}),
}
WITH_PROCESS = frozenset({VmState.STARTING, VmState.RUNNING, VmState.PAUSED, VmState.STOPPING})


def check_move(name: str, verb: str, state: VmState, target: VmState) -> None:
    """Raise WrongState ("cannot <verb> VM <name>: it is <state>") unless the move is legal."""
    if target not in LEGAL_MOVES[state]:
        raise WrongState(
            f"cannot {verb} VM {name}: it is {state.value}",
            resolution=f"look at it with 'volar vms get {name}'",
        )
