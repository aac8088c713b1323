# SPDX-License-Identifier: Apache-2.0
"""An address on the bridge is one VM's, whoever asks at once: a constraint of the database sees to it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from volant.errors import Conflict
from volant.volantd.database import Database
from volant.volantd.network.bridge import choose_lease
from volant.volantd.vms.record import VmDefinition, VmRecord, VmResources
from volant.volantd.vms.registry import VmRegistry

DEFINITION = VmDefinition(resources=VmResources(vcpu=1, memory_mb=128), network="bridged")


def open_registry(path: Path) -> VmRegistry:
    database = Database(path)
    columns = (
        "name, version, kind, boot, format, checksum, size_bytes, virtual_size_bytes, architecture, enabled,"
    )
    database.execute(
        f"INSERT OR IGNORE INTO plugins ({columns} installed_at, manifest)"
        " VALUES ('p', '1.0.0', 'rootfs', 'kernel', 'raw', '', 0, 0, '', 1, '', '{}')"
    )
    return VmRegistry(database)


def add(registry: VmRegistry, name: str, address: str) -> VmRecord:
    return registry.add(
        name=name, plugin=("p", "1.0.0"), definition=DEFINITION, address=address, mac="", ports=(), control_key="",
        host_key="", hypervisor="qemu",
    )  # fmt: skip


def test_an_address_that_was_given_meanwhile_is_a_conflict(tmp_path: Path) -> None:
    registry = open_registry(tmp_path / "db")
    add(registry, "one", "192.168.127.100")
    with pytest.raises(Conflict, match=r"192\.168\.127\.100 was given to another one"):
        add(registry, "two", "192.168.127.100")


def test_of_many_who_ask_at_once_each_gets_its_own(tmp_path: Path) -> None:
    open_registry(tmp_path / "db")
    together = threading.Barrier(4)

    def ask(asker: int) -> None:
        registry = open_registry(tmp_path / "db")
        together.wait(30)
        for number in range(10):
            name = f"vm-{asker}-{number}"
            while True:
                address = choose_lease(registry.list_addresses())
                try:
                    add(registry, name, address)
                    break
                except Conflict:
                    continue

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(60)
    addresses = [record.address for record in open_registry(tmp_path / "db").list_all()]
    assert len(addresses) == len(set(addresses)) == 40
