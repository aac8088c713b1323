# SPDX-License-Identifier: Apache-2.0
"""The host's disk is full to the last block: what frees space works, and what happens meanwhile is not forgotten."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, create, wait_until
from support.plugin_files import make_plugin


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """With its home on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a file system that is full needs a mount")
    home = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "volant-test", str(home)], check=True)
    daemon = Daemon(home)
    try:
        daemon.start()
        assert daemon.call("POST", "/plugins", make_plugin())[0] == 201
        yield daemon
    finally:
        with contextlib.suppress(OSError):
            print((home / "daemon.log").read_text())
        daemon.close()
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        shutil.rmtree(home, ignore_errors=True)


def fill(folder: Path) -> Path:
    """Take every block there is, with the daemon's log as well: it writes, too."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while stream.write(b"x" * size):
                    pass
    return filler


def test_vms_are_stopped_and_deleted_on_a_full_disk(daemon: Daemon) -> None:
    for name in ("one", "two", "three"):
        create(daemon, name, restart="no")
    filler = fill(daemon.home)
    for _ in range(60):  # until the room that the database's log has by chance is used up, too
        daemon.call("PUT", "/secrets/s", {"value_base64": "eA=="})
    fill(daemon.home / "run")
    assert daemon.call("POST", "/vms/one/stop")[1]["status"] == "stopped"
    assert daemon.call("DELETE", "/vms/two?force=true")[0] == 204
    assert daemon.call("DELETE", "/vms/one")[0] == 204
    os.kill(daemon.vm("three")["hypervisor"]["pid"], signal.SIGKILL)
    wait_until(lambda: daemon.vm("three")["status"] == "failed")
    daemon.kill(signal.SIGTERM)
    fill(daemon.home / "vms")
    daemon.start()
    assert [vm["name"] for vm in daemon.call("GET", "/vms")[1]] == ["three"]
    filler.unlink()
    wait_until(lambda: (daemon.home / "reserve").exists())


def test_on_a_full_disk_a_vm_sleeps_or_runs_and_is_never_lost(daemon: Daemon) -> None:
    names = ("asleep", "awake")
    for name in names:
        create(daemon, name, restart="no")
    assert daemon.call("POST", "/vms/asleep/suspend")[1]["status"] == "suspended"
    filler = fill(daemon.home)
    fill(daemon.home / "run")
    states = {"asleep": "suspended", "awake": "running"}
    for _ in range(3):
        for name, act, target in (("asleep", "resume", "running"), ("awake", "suspend", "suspended")):
            if states[name] != target:
                status, answer = daemon.call("POST", f"/vms/{name}/{act}")
                assert status in (200, 507), answer
                states[name] = target if status == 200 else states[name]
                wait_until(lambda name=name: daemon.vm(name)["status"] == states[name])
    # What happened is known to the next daemon, too.
    daemon.kill()
    daemon.start()
    assert {name: daemon.vm(name)["status"] for name in names} == states
    for folder in (daemon.home, daemon.home / "run"):
        (folder / filler.name).unlink()
    for name in names:
        if states[name] == "suspended":
            assert daemon.call("POST", f"/vms/{name}/resume")[1]["status"] == "running"
        wait_until(lambda name=name: daemon.vm(name)["health"] == "healthy")
        assert daemon.call("POST", f"/vms/{name}/exec", {"command": ["true"]})[0] == 200
        assert daemon.call("POST", f"/vms/{name}/suspend")[1]["status"] == "suspended"
