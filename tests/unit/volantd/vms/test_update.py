# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import socket

import pytest

from support.vm_records import make_record
from volant.errors import Conflict, InvalidInput
from volant.volantd.network.types import PortRequest, PublishedPort
from volant.volantd.vms import addresses
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.update import VmUpdate, apply_update

OWN = PublishedPort("127.127.1.2", 8080, 80)
ASKED = PublishedPort("127.0.0.1", 18080, 80)
GIB = 1 << 30


@pytest.fixture
def record() -> VmRecord:
    made = make_record(env={"A": "1", "B": "2"}, labels={"tier": "web"})
    return dataclasses.replace(made, address="127.127.1.2", ports=(OWN, ASKED))


def test_what_is_not_named_stays(record: VmRecord) -> None:
    updated = apply_update(record, VmUpdate(), GIB)
    assert (updated.definition, updated.ports, updated.changed) == (record.definition, record.ports, ())


def test_each_change_and_when_it_counts(record: VmRecord) -> None:
    update = VmUpdate(
        vcpu=2, memory_mb=512, disk_size="2G", env={"B": None, "C": "3"}, labels={"tier": "db"}, restart="no"
    )
    updated = apply_update(record, update, GIB)
    definition = updated.definition
    assert (definition.resources.vcpu, definition.resources.memory_mb) == (2, 512)
    assert definition.disk_size_bytes == 2 * GIB
    assert definition.env == {"A": "1", "C": "3"}
    assert (definition.labels, definition.restart) == ({"tier": "db"}, "no")
    assert updated.changed == ("vcpu", "memory_mb", "disk_size", "env", "labels", "restart")
    assert updated.at_start == ("vcpu", "memory_mb", "disk_size", "env")


def test_kernel_and_its_arguments_are_replaced_and_taken_back(record: VmRecord) -> None:
    chosen = apply_update(record, VmUpdate(kernel="own", kernel_arguments="a=1"), GIB)
    assert (chosen.definition.kernel, chosen.definition.kernel_arguments) == ("own", "a=1")
    assert chosen.at_start == ("kernel", "kernel_arguments")
    record = dataclasses.replace(record, definition=chosen.definition)
    assert apply_update(record, VmUpdate(vcpu=1), GIB).definition.kernel == "own"
    usual = apply_update(record, VmUpdate(kernel="", kernel_arguments=""), GIB)
    assert (usual.definition.kernel, usual.definition.kernel_arguments) == (None, "")


def test_when_it_sleeps_counts_from_the_next_start(record: VmRecord) -> None:
    chosen = apply_update(record, VmUpdate(suspend_when_idle_seconds=600), GIB)
    assert chosen.definition.suspend_when_idle_seconds == 600
    assert chosen.at_start == ("suspend_when_idle_seconds",)
    record = dataclasses.replace(record, definition=chosen.definition)
    assert apply_update(record, VmUpdate(vcpu=1), GIB).definition.suspend_when_idle_seconds == 600
    assert (
        apply_update(record, VmUpdate(suspend_when_idle_seconds=0), GIB).definition.suspend_when_idle_seconds
        == 0
    )


def test_the_same_again_is_no_change(record: VmRecord) -> None:
    update = VmUpdate(
        vcpu=record.definition.resources.vcpu, env={"A": "1", "Z": None}, labels={"tier": "web"}
    )
    assert apply_update(record, update, GIB).changed == ()


def test_ports_are_replaced_but_for_those_of_its_own_address(record: VmRecord) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # Its own published port is bound by itself, which is no conflict.
        again = VmUpdate(publish=[PortRequest(guest_port=81, host_port=ASKED.host_port)])
        assert apply_update(record, again, GIB).ports == (OWN, dataclasses.replace(ASKED, guest_port=81))
        assert apply_update(record, VmUpdate(publish=[]), GIB).ports == (OWN,)
        with pytest.raises(Conflict, match="in use"):
            port = PortRequest(guest_port=80, host_port=taken.getsockname()[1])
            apply_update(record, VmUpdate(publish=[port]), GIB)
    with pytest.raises(InvalidInput, match="twice"):
        apply_update(record, VmUpdate(publish=[PortRequest(80, ASKED.host_port)] * 2), GIB)


def test_a_port_on_all_addresses_takes_that_of_its_own_with_it_and_gives_it_back(
    record: VmRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "find_bind_problem", lambda *_: None)
    everywhere = PublishedPort("0.0.0.0", 8080, 80)
    changed = apply_update(record, VmUpdate(publish=[PortRequest(80, 8080, "0.0.0.0")]), GIB)
    assert changed.ports == (everywhere,)
    record = dataclasses.replace(record, ports=changed.ports)
    assert apply_update(record, VmUpdate(publish=[]), GIB).ports == (OWN,)
    for asked in (
        [PortRequest(80, 8080, "0.0.0.0"), PortRequest(80, 8080)],
        [PortRequest(81, 8080, "0.0.0.0")],
    ):
        with pytest.raises(InvalidInput, match=r"only one can listen|twice"):
            apply_update(record, VmUpdate(publish=asked), GIB)


def test_a_disk_is_never_made_smaller_and_a_variable_has_a_name(record: VmRecord) -> None:
    with pytest.raises(InvalidInput, match="smaller"):
        apply_update(record, VmUpdate(disk_size="512M"), GIB)
    with pytest.raises(InvalidInput, match="variable"):
        apply_update(record, VmUpdate(env={"a b": "c"}), GIB)


def test_what_it_reaches_is_changed_and_waits_until_somebody_holds_it_to_that(record: VmRecord) -> None:
    chosen = apply_update(record, VmUpdate(egress="none"), GIB)
    assert (chosen.definition.egress, chosen.at_start) == ("none", ("egress",))
    record = dataclasses.replace(record, definition=chosen.definition)
    assert apply_update(record, VmUpdate(vcpu=1), GIB).definition.egress == "none"
