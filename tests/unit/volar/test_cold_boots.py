# SPDX-License-Identifier: Apache-2.0
"""Why a VM booted in place of going on from memory."""

from __future__ import annotations

from support.in_process_daemon import InProcessDaemon
from volant.volar.cold_boots import find_cause


def test_the_last_start_alone_counts(daemon: InProcessDaemon) -> None:
    def add(*kinds: str) -> None:
        for kind in kinds:
            daemon.add_event(kind, "slow", **({"cause": "another machine"} if kind == "cold_boot" else {}))

    assert find_cause(daemon.client, "slow") == ""
    add("created", "started")
    assert find_cause(daemon.client, "slow") == ""
    add("cold_boot")
    assert find_cause(daemon.client, "slow") == "another machine", "before it has started, too"
    add("started", "health")
    assert find_cause(daemon.client, "slow") == "another machine"
    add("stopped", "started")
    assert find_cause(daemon.client, "slow") == ""
