# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around a daemon: the host's clock jumps, its state is read-only, agents fall silent, lie or flood."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, create, start_daemon, wait_until
from support.unpacked_packages import unpack_packages


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def read_rss_mib(daemon: Daemon) -> float:
    assert daemon.process is not None
    pages = int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def count_events(daemon: Daemon) -> int:
    with contextlib.closing(sqlite3.connect(daemon.home / "volant.db")) as database:
        return int(database.execute("SELECT count(*) FROM events").fetchone()[0])


def test_a_clock_that_jumps_moves_nothing_but_the_time_of_day(daemon: Daemon, tmp_path: Path) -> None:
    """libfaketime stands between the daemon and the clock; what lasts a while goes by the one that never jumps."""
    root = unpack_packages("faketime", ["libfaketime"])
    clock = tmp_path / "clock"
    faked = {
        "LD_PRELOAD": str(next(root.rglob("libfaketime.so.1"))), "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip

    def move(offset: str) -> None:
        clock.write_text(f"{offset}\n")

    create(daemon, "old")
    daemon.kill()
    move("+1000d")
    daemon.start(**faked)
    assert wait_until(lambda: daemon.vm("old")["health"] == "healthy")
    ahead = create(daemon, "ahead", restart="on-failure")
    assert ahead["created_at"] > daemon.vm("old")["created_at"]
    secret = {"value_base64": "eA=="}
    assert daemon.call("PUT", "/secrets/s", secret)[0] in (200, 201, 204)
    move("-1000d")
    behind = create(daemon, "behind", restart="on-failure")
    assert behind["created_at"] < daemon.vm("old")["created_at"]
    # Restarts wait by the clock that goes on, listings and events are in order of what happened.
    os.kill(daemon.vm("ahead")["hypervisor"]["pid"], 9)
    wait_until(lambda: (vm := daemon.vm("ahead"))["restarts"] == 1 and vm["status"] == "running")
    assert {vm["name"] for vm in daemon.call("GET", "/vms")[1]} == {"old", "ahead", "behind"}
    move("+1000d")
    for name in ("old", "ahead", "behind"):
        assert daemon.call("POST", f"/vms/{name}/stop")[1]["status"] == "stopped"
        assert daemon.call("POST", f"/vms/{name}/start")[0] == 200
        wait_until(lambda name=name: daemon.vm(name)["health"] == "healthy")
    daemon.kill()
    move("-1000d")
    daemon.start(**faked)
    for name in ("old", "ahead", "behind"):
        assert daemon.vm(name)["status"] == "running"
        assert daemon.call("DELETE", f"/vms/{name}?force=true")[0] == 204
    assert daemon.guests() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system that is read-only needs a mount")
def test_a_state_that_cannot_be_written_is_one_clear_line() -> None:
    home = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    daemon = Daemon(home)
    try:
        daemon.start()
        daemon.kill()
        # volantd's own sockets lie elsewhere on a real host: only the state is read-only here.
        subprocess.run(["mount", "--bind", str(home), str(home)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
        try:
            program = ["volantd", "serve"]
            done = subprocess.run(
                program, env=daemon.environment, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            subprocess.run(["umount", str(home)], check=True)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert str(home) in done.stderr and "read-only" in done.stderr.lower()
        # Nothing has become of it: the next one starts.
        daemon.start()
        assert daemon.call("GET", "/vms")[0] == 200
    finally:
        daemon.close()


@pytest.mark.parametrize("choice", ["silent", "lies", "flood"])
def test_an_agent_that_misbehaves_is_its_own_vms_trouble(daemon: Daemon, choice: str) -> None:
    create(daemon, "well")
    before = read_rss_mib(daemon)
    status, _ = daemon.call("POST", "/vms", {"name": "bad", "plugin": "web", "env": {"FAKE": choice}})
    assert status == 201
    if choice == "flood":
        wait_until(lambda: daemon.vm("bad")["status"] == "running")
    deadline = time.monotonic() + 3
    asked = 0
    while time.monotonic() < deadline:
        assert daemon.vm("well")["health"] == "healthy"
        assert daemon.call("POST", "/vms/well/exec", {"command": ["true"]})[0] == 200
        asked += 1
    assert asked > 3
    bad = daemon.vm("bad")
    assert len(str(bad)) < 300_000
    assert count_events(daemon) < 200
    assert read_rss_mib(daemon) - before < 100
    status, stopped = daemon.call("POST", "/vms/bad/stop", {"timeout_seconds": 1})
    assert (status, stopped["status"]) == (200, "stopped"), stopped
    assert daemon.call("DELETE", "/vms/bad")[0] == 204
    assert daemon.vm("well")["health"] == "healthy"
    assert len(daemon.guests()) == 1
