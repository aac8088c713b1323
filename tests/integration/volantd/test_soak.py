# SPDX-License-Identifier: Apache-2.0
"""Thousands of VMs are created and deleted by one daemon: nothing of them stays, in memory, on disk or in the database.

Continuous integration runs some rounds, which show what stays for each; `make soak-daemon` SOAK_ROUNDS of them, which
show what stays in memory.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.daemon_process import Daemon, start_daemon, wait_until
from volant.volantd.vms.events import KEPT_EVENTS

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "40"))
# Buffers, caches and the interpreter's arenas have what they need after so many.
WARM_UP_ROUNDS = max(ROUNDS // 10, 5)
# One VM of so many runs before it is deleted: a process, a monitor and a connection to its agent.
STARTED_EVERY = 10
MOST_GROWTH_KIB_PER_1000 = 200
pytestmark = pytest.mark.timeout(120 + ROUNDS)


@dataclass(frozen=True)
class Use:
    rss_kib: int
    descriptors: int
    threads: int


def measure(daemon: Daemon) -> Use:
    assert daemon.process is not None
    process = Path(f"/proc/{daemon.process.pid}")
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    rss, threads = fields["VmRSS"].split()[0], fields["Threads"]
    return Use(int(rss), len(list((process / "fd").iterdir())), int(threads))


def do_round(daemon: Daemon, number: int) -> None:
    name = f"vm-{number}"
    starts = number % STARTED_EVERY == 0
    request = {"name": name, "plugin": "web", "network": "vsock", "start": starts, "restart": "no"}
    assert daemon.call("POST", "/vms", request, **{"Idempotency-Key": name})[0] == 201
    assert daemon.call("PATCH", f"/vms/{name}", {"labels": {"n": str(number)}})[0] == 200
    if starts:
        assert daemon.call("GET", f"/vms/{name}?wait=healthy&timeout=60")[1]["agent"]["connected"]
    assert daemon.call("GET", f"/vms/{name}")[0] == 200
    assert daemon.call("DELETE", f"/vms/{name}?force=true")[0] == 204
    assert daemon.call("GET", f"/vms/{name}")[0] == 404


def test_nothing_stays_of_vms_that_are_gone() -> None:
    with start_daemon() as daemon:
        for number in range(WARM_UP_ROUNDS):
            do_round(daemon, number)
        before = measure(daemon)
        for number in range(WARM_UP_ROUNDS, ROUNDS):
            do_round(daemon, number)
            if number % 1000 == 0:
                print(number, measure(daemon), flush=True)
        # Connections end beside their requests' replies.
        wait_until(lambda: measure(daemon).descriptors <= before.descriptors)
        after = measure(daemon)
        growth = (after.rss_kib - before.rss_kib) * 1000 / (ROUNDS - WARM_UP_ROUNDS)
        print(f"{ROUNDS} rounds: {before} -> {after}, {growth:.0f} KiB per 1,000 rounds")
        assert daemon.guests() == []
        assert list((daemon.home / "vms").iterdir()) == []
        assert list((daemon.home / "run").glob("vm-*")) == []
        daemon.kill(15)
        database = sqlite3.connect(daemon.home / "volant.db")
        rows = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("vms", "request_keys", "vm_changes", "events")
        }
        database.close()
        assert rows.pop("events") <= KEPT_EVENTS + 500
        assert set(rows.values()) == {0}, rows
        if "SOAK_ROUNDS" in os.environ:
            assert growth <= MOST_GROWTH_KIB_PER_1000
