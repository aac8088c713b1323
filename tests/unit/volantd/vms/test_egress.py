# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from support.vm_records import make_record
from volant.errors import Conflict, InvalidInput, ToolFailed
from volant.volantd.hypervisors.base import SharedNic, StreamNic, TapNic
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms import networking
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.egress import check_egress, find_guard, hold_egress
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import VmState


class Guard:
    def __init__(self) -> None:
        self.applied = 0
        self.fails = False

    async def apply(self) -> None:
        if self.fails:
            raise ToolFailed("cannot hold")
        self.applied += 1


def make_domain(obstacle: str | None) -> Any:
    async def find_obstacle() -> str | None:
        return obstacle

    network = SimpleNamespace(
        egress=Guard(),
        find_lasting_obstacle=lambda: obstacle,
        find_obstacle=find_obstacle,
        failure=obstacle or "",
    )
    hypervisor = SimpleNamespace(capabilities=SimpleNamespace(lent_taps=True))
    return SimpleNamespace(
        shared_network=network, bridge_egress=Guard(), bridge_networks=Guard(),
        find_hypervisor=lambda _kind: hypervisor, settings=SimpleNamespace(shared_network="named"),
    )  # fmt: skip


def with_egress(egress: str, network: str = "user") -> VmRecord:
    record = make_record()
    return replace(
        record, definition=record.definition.model_copy(update={"egress": egress, "network": network})
    )


@pytest.mark.parametrize(
    ("egress", "network", "boot", "obstacle", "error"),
    [
        ("open", "user", "kernel", "no tun", None),
        ("none", "user", "firmware", "no tun", None),
        ("none", "vsock", "kernel", None, None),
        ("a.example", "user", "kernel", None, None),
        ("a.example", "bridged", "firmware", "no tun", None),
        ("a.example", "user", "kernel", "no tun", Conflict),
        ("a.example", "user", "firmware", None, Conflict),
        ("a.example", "vsock", "kernel", None, InvalidInput),
    ],
)
def test_a_list_that_could_not_be_held_is_refused_at_once(
    egress: str, network: str, boot: str, obstacle: str | None, error: type[Exception] | None
) -> None:
    definition = with_egress(egress, network).definition
    domain = cast("Domain", make_domain(obstacle))
    if error is None:
        check_egress(domain, "web", definition, boot)
    else:
        with pytest.raises(error, match="VM web"):
            check_egress(domain, "web", definition, boot)


async def test_a_vm_that_cannot_be_held_to_its_list_does_not_start() -> None:
    plugin = cast("StoredPlugin", SimpleNamespace(boot="kernel"))
    domain = make_domain("no tun")
    with pytest.raises(Conflict, match="no tun"):
        await networking.prepare_network(domain, with_egress("a.example"), plugin, None)
    for egress in ("none", "open"):
        assert await networking.prepare_network(domain, with_egress(egress), plugin, None) is None
    # One that asks for no network by name is on the shared one all the same where it can be held there alone.
    domain = make_domain(None)
    for egress, network in (("a.example", domain.shared_network), ("open", None)):
        assert await networking.prepare_network(domain, with_egress(egress), plugin, None) is network


async def test_on_the_bridge_rules_come_before_the_guest() -> None:
    domain = make_domain(None)
    plugin = cast("StoredPlugin", SimpleNamespace(boot="firmware"))
    await networking.prepare_network(domain, with_egress("none", "dhcp"), plugin, None)
    assert domain.bridge_egress.applied == domain.bridge_networks.applied == 1


async def test_a_change_counts_at_once_where_somebody_holds_the_vm_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = make_domain(None)
    record = replace(with_egress("none"), pending=("env", "egress"), state=VmState.RUNNING)

    def run_on(nic: object) -> RunningVm:
        spec = SimpleNamespace(nics=(nic,))
        vm = SimpleNamespace(record=replace(record, spec=cast("Any", spec)))
        vm.change = lambda pending: replace(vm.record, pending=tuple(pending))
        return cast("RunningVm", vm)

    shared = run_on(SharedNic(record.mac, "vtap0", "10.127.0.1", 1, ""))
    assert (await hold_egress(shared, domain)).pending == ("env",)
    assert (await hold_egress(run_on(TapNic(record.mac, "vtap0", "")), domain)).pending == ("env",)
    assert domain.bridge_egress.applied == domain.shared_network.egress.applied == 1
    alone = run_on(StreamNic(record.mac, cast("Any", "net.sock")))
    assert (await hold_egress(alone, domain)).pending == ("env", "egress")
    domain.shared_network.egress.fails = True
    assert (await hold_egress(shared, domain)).pending == ("env", "egress")
    assert find_guard(domain, replace(shared.record, state=VmState.STOPPED)) is None
