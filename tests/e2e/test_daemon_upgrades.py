# SPDX-License-Identifier: Apache-2.0
"""Daemons of several versions after each other on one state folder: memory that one has kept serves the others."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import volant
from support.host import Host, fetch, wait_until
from support.other_versions import make_version
from volant.volantd.boot.kernel import host_architecture

VM = "counter"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# Counts in memory alone: after a boot there is no such file.
COUNTING = """
i=0; while :; do i=$((i + 1)); echo $i > /dev/shm/count.new; mv /dev/shm/count.new /dev/shm/count; sleep 0.1; done
"""


class Upgraded(Host):
    """One whose volar and volantd are of the version that was chosen last."""

    def become(self, place: Path | None) -> None:
        self.environment.pop("PYTHONPATH", None)
        if place is not None:
            self.environment.update(PYTHONPATH=str(place), PYTHONDONTWRITEBYTECODE="1")

    @property
    def version(self) -> str:
        return str(json.loads(self.volar("system", "info", "--output", "json").stdout)["version"])

    def run_in(self, vm: str, command: str) -> str:
        return self.volar("vms", "ssh", vm, command).stdout

    def count(self, vm: str) -> int:
        return int(self.run_in(vm, "cat /dev/shm/count"))

    def count_on(self, vm: str) -> int:
        """It counts, and nobody has started it anew."""
        first = self.count(vm)
        return int(wait_until(f"{vm} to count on", lambda: (now := self.count(vm)) > first and now))

    def list_cold_boots(self) -> list[tuple[str, str]]:
        events = self.volar("events", "vms", "--output", "json").stdout.splitlines()
        found = [event for line in events if (event := json.loads(line))["kind"] == "cold_boot"]
        return [(event["vm"], event["data"]["cause"]) for event in found]


@pytest.fixture
def upgraded(host: Host, nginx_plugin: Path) -> Iterator[Upgraded]:
    kernels = (host.home / "cache" / "kernels").glob(f"{host_architecture()}-*")
    found = Upgraded(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    found.environment["VOLANT_KERNEL"] = str(next(kernels))
    try:
        found.volar("plugins", "install", str(nginx_plugin))
        yield found
    finally:
        found.close()


def test_memory_outlives_the_version_that_kept_it(upgraded: Upgraded, tmp_path: Path) -> None:
    """Its number, its agent's bytes and QEMU's command are others; the machine that the guest sees is the same."""
    newer = make_version(tmp_path / "newer", "9.9.0", ["-msg", "timestamp=off"])
    host = upgraded
    assert host.version == volant.__version__
    host.volar("vms", "create", VM, "--plugin", "nginx", timeout=300)
    begin = "echo on disk > /root/mark; cat > /root/count.sh; nohup sh /root/count.sh >/dev/null 2>&1 &"
    host.volar("vms", "ssh", VM, begin, stdin=COUNTING)
    wait_until("the first number", lambda: host.run_in(VM, "cat /dev/shm/count || true"))
    boot = host.run_in(VM, BOOT_ID)
    at_snapshot = host.count_on(VM)
    host.volar("snapshots", "create", VM, "then", timeout=300)
    at_suspend = host.count_on(VM)
    host.volar("vms", "suspend", VM, timeout=300)

    # An upgrade in order: what the old one has kept goes on under the new one, and a snapshot of it is made of that.
    host.volar("daemon", "stop")
    host.become(newer)
    assert host.vm(VM)["status"] == "suspended"
    assert host.version == "9.9.0"
    host.volar("vms", "resume", VM, timeout=300)
    assert host.count_on(VM) >= at_suspend
    assert host.run_in(VM, BOOT_ID) == boot
    host.volar("vms", "create", "copy", "--from-snapshot", "then", timeout=300)
    assert host.count_on("copy") >= at_snapshot
    assert host.run_in("copy", "hostname") == "copy\n"
    host.volar("vms", "fork", VM, "fork", timeout=300)
    assert host.count_on("fork") >= at_suspend
    assert [host.vm(name)["started_from"] for name in ("copy", "fork")] == ["snapshot", "snapshot"]
    host.volar("vms", "delete", "copy", "--force")
    host.run_in(VM, "touch /dev/shm/later")
    host.volar("vms", "restore", VM, "then", timeout=300)
    assert host.count_on(VM) >= at_snapshot
    assert host.run_in(VM, "ls /dev/shm/later || true") == ""
    assert host.run_in(VM, BOOT_ID) == boot
    wait_until("its health", lambda: host.vm(VM)["health"] == "healthy")
    assert "Hello from Volant!" in fetch(host.vm(VM)["url"], 60)
    at_suspend = host.count_on(VM)
    host.volar("vms", "suspend", VM, timeout=300)

    # The way back, after a kill: what runs is taken over, and what sleeps wakes.
    os.kill(host.daemon_pid(), signal.SIGKILL)
    host.become(None)
    assert {name: host.vm(name)["status"] for name in (VM, "fork")} == {VM: "suspended", "fork": "running"}
    assert host.version == volant.__version__
    host.count_on("fork")
    host.volar("vms", "resume", VM, timeout=300)
    assert host.count_on(VM) >= at_suspend
    host.volar("vms", "delete", "fork", "--force")
    assert host.list_cold_boots() == []

    # One with other hardware cannot give the guest the machine that it knows: it boots, and that is told.
    host.run_in(VM, "sync")
    host.volar("vms", "suspend", VM, timeout=300)
    host.volar("daemon", "stop")
    # A property of one of its devices, whatever it is good for.
    host.become(
        make_version(tmp_path / "other", "9.9.1", ["-global", "virtio-blk-device.request-merging=off"])
    )
    told = host.volar("vms", "resume", VM, timeout=300)
    wait_until("its health", lambda: host.vm(VM)["health"] == "healthy", timeout_seconds=240)
    ((vm, cause),) = host.list_cold_boots()
    assert (vm, cause) == (VM, f"cannot wake VM {VM}: its memory is of a machine with another set of devices")
    assert cause in told.stdout + told.stderr
    assert host.run_in(VM, "cat /root/mark; ls /dev/shm") == "on disk\n"
    assert host.run_in(VM, BOOT_ID) != boot
    # Nor can a VM be made of the snapshot's memory; its disk serves.
    host.volar("vms", "create", "copy", "--from-snapshot", "then", timeout=300)
    assert host.run_in("copy", "cat /root/mark; ls /dev/shm") == "on disk\n"
    assert host.list_cold_boots()[1][0] == "copy"
