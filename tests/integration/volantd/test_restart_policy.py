# SPDX-License-Identifier: Apache-2.0
"""VMs that end without anybody asking for it, and what their policies make of that."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator

import pytest

from support.daemon_process import Daemon, create, start_daemon, wait_until


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def kill(daemon: Daemon, name: str) -> int:
    pid: int = daemon.vm(name)["hypervisor"]["pid"]
    os.kill(pid, signal.SIGKILL)
    return pid


def test_crashes_restart_up_to_the_limit_and_a_stop_ends_it(daemon: Daemon) -> None:
    create(daemon, "limited", restart="on-failure:1")
    create(daemon, "never", restart="no")
    first = kill(daemon, "limited")
    kill(daemon, "never")
    back = wait_until(lambda: (vm := daemon.vm("limited"))["status"] == "running" and vm)
    back = wait_until(
        lambda: (vm := daemon.vm("limited"))["restarts"] == 1 and vm["status"] == "running" and vm
    )
    assert back["hypervisor"]["pid"] != first
    kill(daemon, "limited")
    ended = wait_until(lambda: (vm := daemon.vm("limited"))["status"] == "failed" and vm)
    assert ended["restarts"] == 1 and "SIGKILL" in ended["status_reason"]
    assert daemon.vm("never")["status"] == "failed"
    # By hand it begins anew.
    assert daemon.call("POST", "/vms/limited/start")[1]["restarts"] == 0


def test_while_it_waits_it_can_be_stopped_and_the_daemon_killed(daemon: Daemon) -> None:
    create(daemon, "stopped", restart="always")
    create(daemon, "kept", restart="unless-stopped")
    with contextlib.closing(sqlite3.connect(daemon.home / "volant.db")) as database:
        database.execute("UPDATE vms SET restarts = 5")  # the next wait is long
        database.commit()
    for name in ("stopped", "kept"):
        kill(daemon, name)
        wait_until(lambda name=name: daemon.vm(name)["status"] == "failed")
    assert daemon.call("POST", "/vms/stopped/stop")[0] == 200
    assert daemon.call("POST", "/vms/stopped/stop")[1]["code"] == "wrong_state"
    daemon.kill()
    daemon.start()
    wait_until(lambda: daemon.vm("kept")["status"] == "running")
    assert daemon.vm("stopped")["status"] == "failed"


def test_after_a_reboot_always_brings_back_what_was_stopped(daemon: Daemon) -> None:
    for name, policy in (("always", "always"), ("unless", "unless-stopped")):
        create(daemon, name, restart=policy)
        daemon.call("POST", f"/vms/{name}/stop")
    daemon.kill()
    (daemon.home / "boot_id").write_text("the boot before")
    daemon.start()
    wait_until(lambda: daemon.vm("always")["status"] == "running")
    assert daemon.vm("unless")["status"] == "stopped"
    daemon.call("POST", "/vms/always/stop")
    daemon.kill()
    daemon.start()
    assert daemon.vm("always")["status"] == "stopped"


def test_a_policy_that_is_none_is_refused(daemon: Daemon) -> None:
    for policy in ("sometimes", "on-failure:0", "on-failure:", "always\n", "no:3"):
        body = {"name": "x", "plugin": "web", "restart": policy}
        assert daemon.call("POST", "/vms", body)[0] == 422, policy
