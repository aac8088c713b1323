# SPDX-License-Identifier: Apache-2.0
"""The database is gone, or an older one: nothing else goes with it, and VMs are taken back from their folders."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, create, start_daemon, wait_until


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def volantd(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from volant.volantd.cli import main; main()"]
    return subprocess.run(
        [*program, *arguments], env=daemon.environment, capture_output=True, text=True, timeout=60
    )


def list_files(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("console.log", "process.log", "hypervisor.log")
    }


def test_a_lost_database_is_refused_and_made_again_of_the_folders(daemon: Daemon) -> None:
    create(daemon, "live", env={"A": "b"}, labels={"tier": "web"})
    create(daemon, "resting", start=False)
    live, resting = daemon.vm("live"), daemon.vm("resting")
    written = daemon.home / "vms" / live["id"] / "vm.json"
    assert written.stat().st_mode & 0o777 == 0o600
    daemon.kill(signal.SIGTERM)
    for path in daemon.home.glob("volant.db*"):
        path.unlink()
    before = list_files(daemon.home / "vms") | list_files(daemon.home / "plugins")
    refused = volantd(daemon, "serve")
    assert refused.returncode == 5
    assert "2 VMs and 1 plugins are there" in refused.stderr
    assert "volantd import-vms" in refused.stderr
    assert list_files(daemon.home / "vms") | list_files(daemon.home / "plugins") == before

    done = volantd(daemon, "import-vms")
    assert (done.returncode, done.stdout) == (0, "imported live\nimported resting\n") or done.stdout == (
        "imported resting\nimported live\n"
    ), done.stderr
    daemon.start()
    found = wait_until(lambda: (vm := daemon.vm("live"))["agent"]["connected"] and vm)
    assert found["hypervisor"]["pid"] == live["hypervisor"]["pid"] == daemon.guests()[0]
    assert (found["ip"], found["ports"], found["labels"]) == (live["ip"], live["ports"], live["labels"])
    assert daemon.vm("resting")["status"] == "stopped"
    assert daemon.vm("resting")["ip"] == resting["ip"]
    assert daemon.call("POST", "/vms/resting/start")[0] == 200
    assert daemon.call("GET", "/plugins/web")[1]["vms"] == 2


def test_what_an_older_database_does_not_know_is_set_aside_and_told(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    shutil.copy(daemon.home / "volant.db", daemon.home / "older")
    daemon.start()
    create(daemon, "live")
    create(daemon, "off")
    daemon.call("POST", "/vms/off/stop")
    ids = {name: daemon.vm(name)["id"] for name in ("live", "off")}
    (daemon.home / "vms" / ids["off"] / "root.qcow2").write_bytes(b"somebody's work")
    daemon.kill(signal.SIGTERM)
    shutil.copy(daemon.home / "older", daemon.home / "volant.db")
    daemon.start()
    assert daemon.call("GET", "/vms")[1] == []
    lost = daemon.home / "lost+found" / f"vm-{ids['off']}"
    assert (lost / "root.qcow2").read_bytes() == b"somebody's work"
    assert daemon.call("GET", "/system/info")[1]["lost_and_found"] == [str(lost)]
    told = daemon.call("GET", "/events/vms")[1].decode()
    assert '"unknown_process"' in told and str(daemon.guests()[0]) in told
    assert '"lost_and_found"' in told
    # The one that runs keeps its place: its process has files open there.
    assert (daemon.home / "vms" / ids["live"]).is_dir()

    assert "volar daemon stop" in volantd(daemon, "import-vms").stderr
    daemon.kill(signal.SIGTERM)
    done = volantd(daemon, "import-vms")
    assert done.returncode == 0, done.stderr
    daemon.start()
    wait_until(lambda: daemon.vm("live")["agent"]["connected"])
    assert daemon.vm("off")["status"] == "stopped"
    assert (daemon.home / "vms" / ids["off"] / "root.qcow2").read_bytes() == b"somebody's work"
    assert daemon.call("GET", "/system/info")[1]["lost_and_found"] == []


def test_a_name_taken_meanwhile_is_told_and_its_folder_stays(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    shutil.copy(daemon.home / "volant.db", daemon.home / "older")
    daemon.start()
    first = create(daemon, "vm", start=False)
    daemon.kill(signal.SIGTERM)
    shutil.copy(daemon.home / "older", daemon.home / "volant.db")
    daemon.start()
    create(daemon, "vm", start=False)
    daemon.kill(signal.SIGTERM)
    done = volantd(daemon, "import-vms")
    assert done.returncode == 5
    assert "name or address" in done.stderr
    assert (daemon.home / "lost+found" / f"vm-{first['id']}" / "vm.json").is_file()
