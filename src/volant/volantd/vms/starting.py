# SPDX-License-Identifier: Apache-2.0
"""One start of a VM: it goes on from memory, wakes from a template, or boots from its disk.

Where memory does not do, a boot is what remains, and that is told. Where the start fails, the VM is what it was before
as far as it can be: suspended with its memory, else failed with the reason.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from volant.errors import VolantError
from volant.volantd.clock import now
from volant.volantd.hypervisors.base import Machine, VmSpec
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.disk_layers import settle_overlay
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.folders import check_folders
from volant.volantd.vms.holding import mark_held, unmark_held
from volant.volantd.vms.kept_memory import discard_memory, has_memory, use_memory
from volant.volantd.vms.lifecycle import Shapes, Wake, boot_vm, no_wake
from volant.volantd.vms.networking import detach, prepare_network
from volant.volantd.vms.record import VmRecord, WakeSource
from volant.volantd.vms.start_kind import find_start
from volant.volantd.vms.states import VmState
from volant.volantd.vms.update import SLEEP
from volant.volantd.vms.volumes import claim_volumes
from volant.volantd.vms.waking import CannotWake, find_memory, wake_vm
from volant.volantd.vms.warm_start import wake_from_template

if TYPE_CHECKING:
    from volant.volantd.vms.running_vm import RunningVm

logger = logging.getLogger(__name__)


class Start:
    """Run once, with the VM's lock held. `cold`: it boots, whatever it could wake from."""

    def __init__(self, vm: RunningVm, domain: Domain, *, restarts: int, cold: bool) -> None:
        self._vm = vm
        self._domain = domain
        self._restarts = restarts
        before = vm.record
        self._cold = cold or (before.started_at is None and before.definition.cold)
        self._source = None if self._cold else find_memory(before, vm.files.folder)
        self._goes_on = self._source is not None and self._source.spec.id == vm.id
        self._record = before
        self.lacking: Shapes = ()
        """Of templates that there were none of, and from which it would have woken rather."""

    async def run(self) -> VmRecord:
        vm = self._vm
        self._begin()
        machine: Machine | None = None
        try:
            machine = await self._make_machine()
            await self._note_machine(machine)
        except BaseException as error:
            if machine is not None:
                await asyncio.shield(machine.kill())
            await asyncio.shield(vm.take_down(self._record, keeps_ports=has_memory(vm.files.folder)))
            self._give_up(error.what if isinstance(error, VolantError) else "the start was interrupted")
            raise
        vm.tell("started", self._record, started_from=find_start(self._record.spec))
        if self._goes_on:
            vm.tell("state", self._record)
        vm.follow(self._record, machine)
        return self._record

    def _begin(self) -> None:
        before = self._record
        check_folders(before)
        claim_volumes(self._domain, before)
        self._record = self._domain.registry.move(
            before, "resume" if self._goes_on else "start", VmState.STARTING, wanted=True,
            restarts=self._restarts, definition=before.definition.model_copy(update={"cold": self._cold}),
            pending=[name for name in before.pending if name != SLEEP] if self._goes_on else (), process=None,
            spec=None, guest=before.guest if self._goes_on else None, last_lines=[], exit_code=None, crash=None,
            started_at=now(),
        )  # fmt: skip
        self._vm.tell("state", self._record)

    async def _make_machine(self) -> Machine:
        record, files = self._record, self._vm.files
        plugin = self._domain.plugins.load(record.plugin_reference)
        network = await prepare_network(self._domain, record, plugin, self._source)
        await self._vm.ports.hold(record, network)
        unmark_held(files.folder)
        settle_overlay(files.disk, None)
        if self._source is not None:
            machine = await self._wake(plugin, self._source, network)
            if machine is not None:
                return machine
        if self._goes_on:
            # It was to be who it was, with its health; it boots, as what it has been changed to since.
            self._goes_on = False
            self._record = self._domain.registry.update(self._record, guest=None, pending=[])
        return await self._boot(plugin, network)

    async def _wake(
        self, plugin: StoredPlugin, source: WakeSource, network: SharedNetwork | None
    ) -> Machine | None:
        """From memory, or None where it does not do: booting is left. What another try may mend is an error."""
        record, folder = self._record, self._vm.files.folder

        def going_on() -> None:
            if self._goes_on:
                mark_held(folder)
            use_memory(folder)

        hypervisor = self._domain.find_hypervisor(record.hypervisor)
        try:
            return await wake_vm(
                record, plugin, source, hypervisor, self._domain.settings, self._remember, going_on, network
            )
        except (CannotWake, VolantError) as error:
            if has_memory(folder) and not isinstance(error, CannotWake):
                raise
            cause = error.what if isinstance(error, VolantError) else str(error)
            logger.warning("VM %s boots: %s", record.name, cause)
            self._vm.tell("cold_boot", record, cause=cause)
            await detach(record)
            return None

    async def _boot(self, plugin: StoredPlugin, network: SharedNetwork | None) -> Machine:
        """From its disk, or awake from a template of one of its shapes."""
        record, folder = self._record, self._vm.files.folder
        unmark_held(folder)
        await asyncio.to_thread(discard_memory, folder)
        hypervisor = self._domain.find_hypervisor(record.hypervisor)
        wake: Wake = no_wake
        if not self._cold:
            wake = partial(wake_from_template, self._domain, self._vm.tell, record, plugin)
        machine, self.lacking = await boot_vm(
            record, plugin, hypervisor, self._domain.settings, self._remember, wake, network
        )
        return machine

    async def _remember(self, spec: VmSpec) -> None:
        await self._vm.save_file(self._domain.registry.update_soon(self._record, spec=spec))
        self._vm.tell("prepared", self._record)

    async def _note_machine(self, machine: Machine) -> None:
        """There is a process: the row names it, and the memory that it went on from is no more."""
        registry, folder = self._domain.registry, self._vm.files.folder
        write = registry.update if self._record.definition.restores_to else registry.update_soon
        definition = self._record.definition.model_copy(update={"restores_to": None})
        self._record = write(self._record, process=machine.identity, definition=definition)
        if self._goes_on:
            unmark_held(folder)
            await asyncio.to_thread(discard_memory, folder)
            self._record = registry.move(self._record, "resume", VmState.RUNNING)

    def _give_up(self, reason: str) -> None:
        """With its memory still there a VM is suspended as before."""
        vm, registry = self._vm, self._domain.registry
        if has_memory(vm.files.folder):
            vm.move("suspend", VmState.SUSPENDED, reason, process=None, wanted=False)
        else:
            definition = vm.record.definition.model_copy(update={"restores_to": None})
            registry.update(vm.record, definition=definition)
            vm.fail(reason)
