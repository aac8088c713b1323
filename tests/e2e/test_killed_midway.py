# SPDX-License-Identifier: Apache-2.0
"""The daemon, or a machine, is killed in the middle of a fork, a snapshot, a sleep and a wake of a real VM.

The moments are told by files that the acts leave on their way; one that passes unseen is a kill right after the act.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.host import Host, fetch, wait_until

VICTIM = "victim"
Moment = Callable[[Path], bool]


def has_files(pattern: str) -> Moment:
    return lambda home: next(home.glob(pattern), None) is not None


HELD, WRITING, KEPT = has_files("vms/*/held"), has_files("snapshots/.*/state"), has_files("snapshots/[!.]*")
FALLING_ASLEEP, ASLEEP = has_files("vms/*/.memory-new/state"), has_files("vms/*/memory")
AWAKE = has_files("vms/*/.memory-used")


def has_machines(count: int) -> Moment:
    return lambda home: len(list(home.glob("vms/*/qmp.sock"))) >= count


@pytest.fixture(scope="module")
def victim(host: Host, nginx_plugin: Path) -> Iterator[str]:
    host.volar("vms", "create", VICTIM, "--plugin", "nginx", timeout=300)
    host.volar("vms", "ssh", VICTIM, "echo in memory > /dev/shm/mark; echo on disk > /root/mark; sync")
    yield VICTIM
    clear(host)
    host.volar("vms", "delete", VICTIM, "--force", check=False)


def kill_at(host: Host, pid: int, moment: Moment, *command: str) -> int:
    """Run a command and kill a process at a moment of it; how the command ended."""
    with subprocess.Popen(
        ["volar", *command], env=host.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not moment(host.home):
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        return process.wait(300)


def check_victim(host: Host, *, asleep: bool = False) -> None:
    """The next daemon finds it as it was, and its guest goes on."""
    status = wait_until(
        "the VM to be settled",
        lambda: (found := host.vm(VICTIM)["status"]) in ("running", "suspended") and found,
    )
    assert asleep or status == "running"
    wait_until("its guest to go on", lambda: not HELD(host.home))
    if status == "suspended":
        host.volar("vms", "resume", VICTIM, timeout=300)
    wait_until("its health", lambda: host.vm(VICTIM)["health"] == "healthy", timeout_seconds=120)
    assert host.volar("vms", "ssh", VICTIM, "cat /dev/shm/mark /root/mark").stdout == "in memory\non disk\n"
    assert "Hello from Volant!" in fetch(host.vm(VICTIM)["url"], 60)


def clear(host: Host) -> None:
    """Copies and snapshots go, and nothing of them is left: no memory, no layer that nobody stands on."""
    names = [name.removeprefix("vm/") for name in host.volar("vms", "list", "-o", "name").stdout.split()]
    for name in names:
        if name.startswith("copy"):
            host.volar("vms", "delete", name, "--force")
    for name in host.volar("snapshots", "list", "-o", "name").stdout.split():
        host.volar("snapshots", "delete", name.rpartition("/")[2])
    host.volar("daemon", "stop")
    host.vm(VICTIM)
    assert list(host.home.glob("snapshots/*")) + list(host.home.glob("snapshots/.*")) == []
    assert len(list(host.home.glob("layers/*"))) <= count_layers(host)


def count_layers(host: Host) -> int:
    """Below the disks of all VMs."""
    found: set[str] = set()
    for disk in host.home.glob("vms/*/root.qcow2"):
        chain = host.run("qemu-img", "info", "-U", "--backing-chain", str(disk)).stdout
        found |= {word for word in chain.split() if "/layers/" in word}
    return len(found)


@pytest.mark.parametrize(
    "moment", [HELD, WRITING, KEPT, has_machines(2)], ids=["held", "writing", "kept", "copy"]
)
def test_the_daemon_is_killed_while_it_forks(host: Host, victim: str, moment: Moment) -> None:
    count = len(list(host.home.glob("vms/*/qmp.sock")))
    where = has_machines(count + 1) if moment not in (HELD, WRITING, KEPT) else moment
    kill_at(host, host.daemon_pid(), where, "vms", "fork", victim, "copy")
    check_victim(host)
    clear(host)


def test_the_daemon_is_killed_while_a_vm_falls_asleep_and_wakes(host: Host, victim: str) -> None:
    for moment in (FALLING_ASLEEP, ASLEEP):
        kill_at(host, host.daemon_pid(), moment, "vms", "suspend", victim)
        check_victim(host, asleep=True)
    host.volar("vms", "suspend", victim, timeout=300)
    kill_at(host, host.daemon_pid(), AWAKE, "vms", "resume", victim)
    check_victim(host, asleep=True)
    clear(host)


def test_a_copy_that_dies_before_it_is_one_fails_alone(host: Host, victim: str) -> None:
    known = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    before = set(host.home.glob("vms/*"))

    def is_there(home: Path) -> bool:
        new = set(home.glob("vms/*")) - before
        return any((folder / "qmp.sock").exists() for folder in new)

    with subprocess.Popen(
        ["volar", "vms", "fork", victim, "copy"], env=host.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not is_there(host.home):
            time.sleep(0.001)
        for pid in set(host.processes()) - known:
            if b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=300)
    check_victim(host)
    clear(host)
