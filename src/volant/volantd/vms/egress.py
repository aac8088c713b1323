# SPDX-License-Identifier: Apache-2.0
"""What a VM may reach beyond the VMs of its networks: whether it can be held to that, held to it now, and counted.

A VM that cannot be held to its list does not start: nothing here ever opens what was asked to be closed.
"""

from __future__ import annotations

import asyncio
import logging
import time

from volant.contract.egress import parse_egress
from volant.errors import InvalidInput, VolantError
from volant.volantd.hypervisors.base import TapNic
from volant.volantd.network.egress.guard import Counts, EgressGuard
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.networking import ON_BRIDGE, is_shared, refuse_egress
from volant.volantd.vms.record import VmDefinition, VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS
from volant.volantd.vms.update import EGRESS

logger = logging.getLogger(__name__)

# Between two readings for who asks.
FRESH_SECONDS = 0.5


def check_egress(domain: Domain, name: str, definition: VmDefinition, boot: str) -> None:
    """Raises InvalidInput or Conflict where such a VM could never be held to its list here."""
    egress = parse_egress(definition.egress)
    if egress.is_open or egress.is_closed or definition.network in ON_BRIDGE:
        return
    if definition.network == "vsock":
        raise InvalidInput(
            f"cannot let VM {name} reach {definition.egress}: it has no network in vsock mode",
            resolution="omit --egress, or use --network user",
        )
    obstacle = domain.shared_network.find_lasting_obstacle()
    if boot != "kernel":
        obstacle = "its disk boots a system of its own"
    if obstacle is not None:
        raise refuse_egress(name, definition.egress, obstacle)


def find_guard(domain: Domain, record: VmRecord) -> EgressGuard | None:
    """What holds a VM as it was started; None where nothing can be told or changed of it."""
    nics = record.spec.nics if record.spec is not None else ()
    if record.state not in WITH_PROCESS:
        return None
    if any(isinstance(nic, TapNic) for nic in nics):
        return domain.bridge_egress
    return domain.shared_network.egress if is_shared(record) else None


async def hold_egress(vm: RunningVm, domain: Domain) -> VmRecord:
    """Of a VM whose row has another list now: at once, where it is on a bridge. Called with its lock held."""
    record = vm.record
    guard = find_guard(domain, record)
    if EGRESS not in record.pending or guard is None:
        return record
    try:
        await guard.apply()
    except VolantError as error:
        logger.warning("VM %s is held to its egress from its next start: %s", record.name, error.what)
        return record
    return vm.change(pending=[name for name in record.pending if name != EGRESS])


def find_counts(domain: Domain, record: VmRecord) -> Counts | None:
    guard = find_guard(domain, record)
    return None if guard is None else guard.find_counts(record.name)


class EgressCounter:
    """Reads what was counted of all VMs, for the log and for who asks."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        for guard in domain.egress_guards:
            guard.on_counted = self._tell

    def _tell(self, name: str) -> None:
        vm_id = self._domain.registry.find_id(name)
        if vm_id is not None:
            self._domain.registry.on_change(vm_id)

    async def refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._read_at < FRESH_SECONDS:
                return
            for guard in self._domain.egress_guards:
                try:
                    await guard.count()
                except VolantError as error:
                    logger.debug("%s: %s", error.what, error.details)
            self._read_at = time.monotonic()
