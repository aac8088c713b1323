# SPDX-License-Identifier: Apache-2.0
"""The host goes down and comes up again: guests end in order, and those that ran are started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.daemon_process import TESTS, Daemon, create, start_daemon, wait_until


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def shut_down(daemon: Daemon, seconds: float = 20) -> str:
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "fake_hypervisor.py"), "shutdown", str(seconds)],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_consoles(daemon: Daemon) -> str:
    return "".join(path.read_text() for path in sorted((daemon.home / "vms").glob("*/console.log")))


def test_vms_end_in_order_and_come_back(daemon: Daemon) -> None:
    for name, restart in (("one", "always"), ("two", "always"), ("never", "no"), ("resting", "always")):
        create(daemon, name, restart=restart)
    assert daemon.call("POST", "/vms/resting/stop")[0] == 200
    told = shut_down(daemon)
    assert told == "stopped: never, one, two; they start again with the daemon\n"
    assert daemon.process is not None and daemon.process.wait(10) == 0  # it has made room
    assert daemon.guests() == []
    assert read_consoles(daemon).count("power off") == 4  # each was asked, none was killed
    daemon.start()
    for name in ("one", "two"):
        wait_until(lambda name=name: daemon.vm(name)["status"] == "running")
    for name in ("never", "resting"):
        assert daemon.vm(name)["status"] == "stopped"
    wait_until(lambda: not (daemon.home / "comeback.json").exists())


def test_without_a_daemon_and_cut_off_in_the_middle(daemon: Daemon) -> None:
    """The daemon was stopped by hand, and the host lost its power while VMs were being stopped."""
    create(daemon, "one")
    create(daemon, "busy", env={"FAKE": "busy"})
    daemon.kill(signal.SIGTERM)
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "support" / "fake_hypervisor.py"), "shutdown", "60"],
        env=daemon.environment,
    )
    wait_until(lambda: len(daemon.guests()) == 1)
    process.kill()
    process.wait()
    for pid in daemon.guests():
        os.kill(pid, signal.SIGKILL)
    assert len(json.loads((daemon.home / "comeback.json").read_text())) == 2
    daemon.start()
    for name in ("one", "busy"):
        wait_until(lambda name=name: daemon.vm(name)["status"] == "running")


def test_nothing_to_stop(daemon: Daemon) -> None:
    assert shut_down(daemon) == "no VM was running\n"
    assert shut_down(daemon) == "no VM was running\n"


def test_a_guest_that_the_host_s_shutdown_ended_has_not_crashed(daemon: Daemon) -> None:
    """No unit asked for it in time: systemd ends every process, and says that it is stopping."""
    systemctl = daemon.home / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text("#!/bin/sh\necho stopping\nexit 1\n")
    systemctl.chmod(0o755)
    daemon.kill(signal.SIGTERM)
    daemon.start(PATH=f"{systemctl.parent}:{os.environ['PATH']}")
    create(daemon, "one")
    os.kill(daemon.guests()[0], signal.SIGTERM)
    ended = wait_until(lambda: (vm := daemon.vm("one"))["status"] == "stopped" and vm)
    assert ended["status_reason"] == "the host was shut down"
    daemon.kill(signal.SIGTERM)
    daemon.start()
    wait_until(lambda: daemon.vm("one")["status"] == "running")
