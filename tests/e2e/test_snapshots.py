# SPDX-License-Identifier: Apache-2.0
"""Snapshots and forks of real VMs: a copy has the original's disk and memory, and is a machine of its own."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest

from support.host import Host, fetch, wait_until
from volant.client.client import Client
from volant.errors import NotFound
from volant.volantd.boot.kernel import host_architecture

SOURCE = "original"
# Started before the snapshot. Its name is read first: a line with the copy's name was read by the copy alone.
WITNESS = """\
n=0
while :; do
    n=$((n + 1))
    name=$(hostname)
    set -- $(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address)
    echo "$n $name $1 $2 $3 $(od -An -N16 -tx1 /dev/urandom | tr -d ' ')" >> /tmp/witness
    sleep 0.2
done
"""


@pytest.fixture(scope="module")
def source(host: Host, nginx_plugin: Path) -> Iterator[str]:
    host.volar("vms", "create", SOURCE, "--plugin", "nginx")
    host.volar(
        "vms",
        "ssh",
        SOURCE,
        "cat > /root/witness.sh; nohup sh /root/witness.sh >/dev/null 2>&1 &",
        stdin=WITNESS,
    )
    wait_until("the witness", lambda: read_witness(host, SOURCE))
    yield SOURCE
    for name in (SOURCE, "copy-1", "copy-2", "again", "sleeper"):
        host.volar("vms", "delete", name, "--force", check=False)


def read_witness(host: Host, vm: str) -> list[list[str]]:
    text = host.volar("vms", "ssh", vm, "cat /tmp/witness 2>/dev/null", check=False).stdout
    return [line.split() for line in text.splitlines() if len(line.split()) == 6]


def fetch_first(host: Host, vm: str) -> str:
    """What the first connection that is accepted at all is answered, even while the VM is not itself yet."""
    client = Client(str(host.home / "run" / "volantd.sock"))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            return fetch(str(client.get_vm(vm)["url"]), timeout_seconds=120)
        except NotFound:
            pass
        except URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
        time.sleep(0.01)
    raise TimeoutError(vm)


def test_a_fork_goes_on_as_a_machine_of_its_own(host: Host, source: str) -> None:
    host.volar("vms", "ssh", source, "echo of the original > /root/disk; echo in memory > /dev/shm/memory")
    before = len(read_witness(host, source))
    host.volar("vms", "fork", source, "copy", "--count", "2", timeout=300)
    vms = {name: host.vm(name) for name in (source, "copy-1", "copy-2")}
    assert len({vm["ip"] for vm in vms.values()}) == 3
    for name in ("copy-1", "copy-2"):
        assert host.volar("vms", "ssh", name, "cat /root/disk /dev/shm/memory; hostname").stdout.split("\n")[:3] == [
            "of the original", "in memory", name,
        ]  # fmt: skip
        wait_until(f"{name} to be healthy", lambda name=name: host.vm(name)["health"] == "healthy")
        assert "Hello from Volant!" in fetch(host.vm(name)["url"])
    # What the process that ran before the snapshot saw in its first instants: none of it is another machine's.
    seen = {name: wait_until(name, lambda name=name: read_witness(host, name)) for name in vms}
    first = {name: next(line for line in seen[name] if line[1] == name) for name in ("copy-1", "copy-2")}
    assert all(int(line[0]) > before for line in first.values())
    original = next(
        line for line in seen[source] if int(line[0]) >= min(int(line[0]) for line in first.values())
    )
    for what in (2, 3, 4, 5):  # UUID, boot id, hardware address, random bytes
        values = [line[what] for line in (original, *first.values())]
        assert len(set(values)) == 3, values
    machine_ids = {host.volar("vms", "ssh", name, "cat /etc/machine-id").stdout for name in vms}
    assert len(machine_ids) == 3
    # Their disks go different ways from here on.
    host.volar("vms", "ssh", "copy-1", "echo of the copy > /root/disk && sync")
    assert host.volar("vms", "ssh", "copy-2", "cat /root/disk").stdout == "of the original\n"
    # A copy is stopped, boots from its own disk and has what it had written.
    host.volar("vms", "restart", "copy-1")
    assert host.volar("vms", "ssh", "copy-1", "cat /root/disk; ls /dev/shm").stdout == "of the copy\n"
    host.volar("vms", "delete", "copy-1", "--force")
    assert host.volar("vms", "ssh", "copy-2", "cat /root/disk").stdout == "of the original\n"
    # One that ends by itself is off in order: no reset of its devices takes its hypervisor down.
    host.volar("vms", "ssh", "copy-2", "kill -TERM 1", check=False)
    wait_until("copy-2 to be off", lambda: host.vm("copy-2")["status"] not in ("running", "stopping"))
    assert (host.vm("copy-2")["status"], host.vm("copy-2")["crash"]) == ("stopped", None)
    host.volar("vms", "delete", "copy-2", "--force")
    assert host.vm(source)["health"] == "healthy"


def test_a_vm_of_a_snapshot_is_what_the_other_was(host: Host, source: str) -> None:
    host.volar("vms", "ssh", source, "echo then > /root/disk")
    host.volar("snapshots", "create", source, "then")
    host.volar("vms", "ssh", source, "echo now > /root/disk")
    listed = json.loads(host.volar("snapshots", "list", "-o", "json").stdout)
    assert [(row["name"], row["vm"], row["has_memory"]) for row in listed] == [("then", source, True)]
    assert listed[0]["pause_ms"] > 0
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(fetch_first, host, "again")
        host.volar("vms", "create", "again", "--from-snapshot", "then", timeout=300)
        assert "Hello from Volant!" in page.result()
    assert host.volar("vms", "ssh", "again", "cat /root/disk").stdout == "then\n"
    assert host.volar("vms", "ssh", source, "cat /root/disk").stdout == "now\n"
    host.volar("snapshots", "delete", "then")
    assert host.volar("vms", "ssh", "again", "cat /root/disk").stdout == "then\n"
    host.volar("vms", "delete", "again", "--force")


def test_it_sleeps_over_the_daemons_death_and_returns_to_what_it_was(
    host: Host, source: str, tmp_path: Path
) -> None:
    """Suspended, woken by who connects, restored in place, and sent to another host: one VM for all of it."""
    host.volar("vms", "create", "sleeper", "--plugin", "nginx", "--suspend-when-idle", "1h", timeout=300)
    url = host.vm("sleeper")["url"]
    run = partial(host.volar, "vms", "ssh", "sleeper")
    before = run("cat /etc/machine-id; echo then > /root/disk; sync; echo mine > /dev/shm/memory").stdout
    host.volar("snapshots", "create", "sleeper", "earlier")
    run("echo now > /root/disk; sync; echo later > /dev/shm/memory")
    pid = host.vm("sleeper")["hypervisor"]["pid"]
    host.volar("vms", "suspend", "sleeper", timeout=300)
    assert host.vm("sleeper")["status"] == "suspended"
    assert not Path(f"/proc/{pid}").exists()
    # As after a restart of the host: its runtime folder is empty, and the kernel says that it is another boot.
    os.kill(host.daemon_pid(), signal.SIGKILL)
    (host.home / "run" / "volantd.sock").unlink()
    (host.home / "boot_id").write_text("the boot before")
    assert host.vm("sleeper")["status"] == "suspended"  # of the daemon that came back
    with ThreadPoolExecutor(20) as pool:
        pages = list(pool.map(lambda _: fetch(url, 120), range(20)))
    assert all("Hello from Volant!" in page for page in pages)
    assert host.vm("sleeper")["status"] == "running"
    host_time, after = time.time(), run("cat /etc/machine-id /dev/shm/memory; date +%s").stdout.split()
    assert after[:2] == [before.strip(), "later"]
    assert abs(int(after[2]) - host_time) < 60
    host.volar("vms", "pause", "sleeper")
    host.volar("vms", "restore", "sleeper", "earlier", timeout=300)
    assert run("cat /root/disk /dev/shm/memory /etc/machine-id").stdout == f"then\nmine\n{before}"
    archive = str(tmp_path / "earlier.tar")
    host.volar("snapshots", "export", "earlier", archive, "--with-memory", timeout=300)
    host.volar("snapshots", "delete", "earlier")
    host.volar("snapshots", "import", archive, "--name", "taken", timeout=300)
    host.volar("vms", "create", "again", "--from-snapshot", "taken", timeout=300)
    other = host.volar("vms", "ssh", "again", "cat /root/disk /dev/shm/memory /etc/machine-id").stdout.split()
    assert other[:2] == ["then", "mine"]
    assert other[2] != before.strip()
    for name in ("again", "sleeper"):
        host.volar("vms", "delete", name, "--force")
    host.volar("snapshots", "delete", "taken")


def test_the_daemon_is_killed_and_the_layered_vm_goes_on(host: Host, source: str) -> None:
    os.kill(host.daemon_pid(), signal.SIGKILL)
    assert host.vm(source)["status"] == "running"
    assert host.volar("vms", "ssh", source, "cat /root/disk").stdout == "now\n"
    host.volar("vms", "restart", source)
    assert host.volar("vms", "ssh", source, "cat /root/disk").stdout == "now\n"


def test_a_backup_of_a_vm_that_runs_boots_elsewhere(host: Host, source: str, nginx_plugin: Path) -> None:
    # Not synced: holding the guest still for the copy brings it to the disk.
    host.volar("vms", "ssh", source, "echo kept > /root/kept")
    archive = host.home / "backup.tar"
    told = host.volar("system", "backup", str(archive), "--without-plugins").stderr
    assert f"VM {source} was not held still" not in told
    host.volar("vms", "ssh", source, "echo lost > /root/kept; sync")
    assert len(read_witness(host, source)) > 0
    host.volar("vms", "stop", source)
    other = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    other.environment["VOLANT_KERNEL"] = str(
        next((host.home / "cache" / "kernels").glob(f"{host_architecture()}-*"))
    )
    try:
        told = other.volar("system", "restore", str(archive)).stderr
        assert "install these plugins again" in told
        other.volar("plugins", "install", str(nginx_plugin))
        disk = other.home / "vms" / other.vm(source)["id"] / "root.qcow2"
        raw = other.home / "root.raw"
        other.run("qemu-img", "convert", "-O", "raw", str(disk), str(raw))
        other.run("e2fsck", "-fn", str(raw))
        assert other.vm(source)["status"] == "stopped"
        other.volar("vms", "start", source)
        assert other.volar("vms", "ssh", source, "cat /root/kept").stdout == "kept\n"
        wait_until("its web page", lambda: other.vm(source)["health"] == "healthy")
        assert "Hello from Volant!" in fetch(other.vm(source)["url"])
    finally:
        other.close()
