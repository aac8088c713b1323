# SPDX-License-Identifier: Apache-2.0
"""Machines of one memory: no two are alike in what they are or in the first random bytes that any of them reads.

`make test-forks` makes 200 of them, CI a handful. They come and go in small batches, so that the host's memory does not
decide how many there can be; all wake from the very same instant.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.host import Host, wait_until

COUNT = int(os.environ.get("FORKS", "6"))
BATCH = int(os.environ.get("FORKS_AT_ONCE", "6"))
# It runs before the snapshot, and reads from a descriptor of the kernel's generator that it opened before, as soon as
# it has another name. That is read first: a line with the copy's name was read by the copy alone.
WITNESS = """\
exec 3< /dev/urandom
last=
while :; do
    read -r name < /proc/sys/kernel/hostname
    [ "$name" != "$last" ] || { sleep 0.1; continue; }
    set -- $(dd bs=16 count=1 <&3 2> /dev/null | od -An -tx1 | tr -d ' ') \
        $(cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address)
    echo "$name $*" >> /dev/shm/witness
    last=$name
done
"""
WHAT = ("random bytes", "UUID", "boot id", "hardware address", "machine id", "address", "host key")


def test_no_two_machines_of_one_memory_are_alike(host: Host, nginx_plugin: Path) -> None:
    host.volar("vms", "create", "mother", "--plugin", "nginx", timeout=300)
    host.volar(
        "vms", "ssh", "mother", "cat > /root/w.sh; nohup sh /root/w.sh >/dev/null 2>&1 &", stdin=WITNESS
    )
    wait_until(
        "the witness",
        lambda: host.volar("vms", "ssh", "mother", "cat /dev/shm/witness", check=False).stdout,
    )
    host.volar("snapshots", "create", "mother", "instant")
    seen = [look_at(host, "mother")]
    try:
        for first in range(0, COUNT, BATCH):
            names = [f"child-{number}" for number in range(first, min(first + BATCH, COUNT))]
            with ThreadPoolExecutor(2) as pool:
                seen += pool.map(lambda name: make_child(host, name), names)
            host.volar("vms", "delete", *names, "--force")
    finally:
        left = {vm["name"] for vm in json.loads(host.volar("vms", "list", "-o", "json").stdout)}
        for name in left & {"mother", *(f"child-{number}" for number in range(COUNT))}:
            host.volar("vms", "delete", name, "--force", check=False)
        host.volar("snapshots", "delete", "instant", check=False)
    assert len(seen) == COUNT + 1
    for index, what in enumerate(WHAT):
        values = [facts[index] for facts in seen]
        assert len(set(values)) == len(values), f"two machines have the same {what}: {sorted(values)}"


def make_child(host: Host, name: str) -> tuple[str, ...]:
    host.volar("vms", "create", name, "--from-snapshot", "instant", "--no-wait", timeout=300)
    return look_at(host, name)


def look_at(host: Host, name: str) -> tuple[str, ...]:
    """What the witness read first under this name, and what the machine is."""
    script = f"grep -m1 '^{name} ' /dev/shm/witness && cat /etc/machine-id"

    def read() -> list[str]:
        return host.volar("vms", "exec", name, "--", "sh", "-c", script, check=False).stdout.split()

    words = wait_until(f"the witness of {name}", lambda: len(found := read()) == 6 and found)
    vm = host.vm(name)
    # The control stream pins this key: the guest that has just answered has it.
    record = json.loads((host.home / "vms" / vm["id"] / "vm.json").read_text())
    return (*words[1:], vm["ip"], record["host_key"])
