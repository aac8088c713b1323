# SPDX-License-Identifier: Apache-2.0
"""All VMs of this daemon: create, delete, look up, and what people ask of one, one thing at a time."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets as random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from volant.contract.names import NAME_PATTERN
from volant.errors import InvalidInput, StorageFull, WrongState
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.background import Background
from volant.volantd.vms.definition import NewVm, choose_plugin, make_definition
from volant.volantd.vms.disk_layers import has_layers, held_layer
from volant.volantd.vms.disks import make_overlay
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.egress import EgressCounter, check_egress, hold_egress
from volant.volantd.vms.hypervisor_choice import choose_hypervisor
from volant.volantd.vms.keys import make_private_key
from volant.volantd.vms.lifecycle import find_guest_kernel
from volant.volantd.vms.making import Makings
from volant.volantd.vms.monitor import Guest
from volant.volantd.vms.networking import choose_place, list_guest_ports, sleeps_when_idle
from volant.volantd.vms.pausing import pause_vm, unpause_vm
from volant.volantd.vms.plugin_disks import with_disks
from volant.volantd.vms.record import VmDefinition, VmRecord
from volant.volantd.vms.registry import name_taken
from volant.volantd.vms.request_keys import RequestKey, RequestKeys
from volant.volantd.vms.resizing import resize_vm
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.stopping import AGENT_WAIT_SECONDS
from volant.volantd.vms.suspending import drop_memory, suspend_vm
from volant.volantd.vms.update import VmUpdate
from volant.volantd.vms.volumes import let_go_of_made, remove_going

DELETE_STOP_SECONDS = 10.0
OnAdd = Callable[[str], object]
Create = Callable[[NewVm], Awaitable[VmRecord]]


class Fleet:
    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.background = Background()
        self.request_keys = RequestKeys(domain.database)
        self.egress = EgressCounter(domain)
        self.free_layers: Callable[[], None] = lambda: None
        """Removes the layers that no disk stands on any more; of whoever knows all who may."""
        self._makings = Makings(domain.events)
        self._registry = domain.registry
        self._vms: dict[str, RunningVm] = {}

    def find(self, vm_id: str) -> RunningVm:
        """The one object of a VM; whether there is a row is for the caller to know."""
        if vm_id not in self._vms:
            self._vms[vm_id] = RunningVm(self.domain, vm_id, self.background)
        return self._vms[vm_id]

    def find_problem(self, vm_id: str) -> str:
        """What a VM's machine complains about while it runs, or empty."""
        vm = self._vms.get(vm_id)
        return "" if vm is None else vm.problem

    # What people ask for

    async def create_once(self, key: RequestKey, request: NewVm, create: Create) -> tuple[VmRecord, bool]:
        """What `create` makes of the request, or the VM that was made for this key before; and whether it was."""
        async with self.request_keys.hold(key):
            vm_id = self.request_keys.find(key)
            if vm_id is None:
                return await create(replace(request, key=key)), False
            record = self.get(vm_id)
            if record.state is not VmState.CREATED or not request.start:
                return record, True
            # A daemon was killed before it started this one, and perhaps before it had its disk.
            await self.delete(vm_id, force=True)
            return await create(replace(request, key=key)), False

    async def create(self, request: NewVm, on_add: OnAdd = lambda _: None) -> VmRecord:
        """A VM in state created, and then starting where the request says so (`start`).

        `on_add` is told its id within the transaction that writes its row.
        """
        if not re.fullmatch(NAME_PATTERN, request.name):
            raise InvalidInput(
                f"cannot create VM {request.name!r}: a name has lower-case letters, digits, '-' and '_',"
                " begins with a letter or digit and has at most 63 of them"
            )
        if self._registry.has_name(request.name):
            raise name_taken(request.name)
        plugin = choose_plugin(self.domain, request)
        with self._makings.hold(request.name) as making:
            async with with_disks(self.domain, request, plugin.manifest, making) as completed:
                return await self._create(completed, plugin, on_add)

    async def _create(self, request: NewVm, plugin: StoredPlugin, on_add: OnAdd) -> VmRecord:
        definition = make_definition(self.domain, request, plugin.manifest)
        check_egress(self.domain, request.name, definition, plugin.boot)
        hypervisor = choose_hypervisor(self.domain, request, plugin, definition)
        if plugin.boot == "kernel":
            await self._find_kernel(definition, definition.kernel)
        taken = self._registry.list_addresses()
        address, ports = choose_place(
            request.name,
            request.publish,
            definition.network,
            list_guest_ports(plugin),
            taken,
            self.domain.settings,
        )

        def note_added(vm_id: str) -> None:
            self.request_keys.add(request.key, vm_id)
            on_add(vm_id)

        record = self._registry.add(
            name=request.name,
            plugin=(plugin.manifest.name, plugin.manifest.version),
            definition=definition,
            address=address,
            # 52:54:00 is the locally administered prefix that QEMU uses.
            mac="52:54:00:" + ":".join(f"{byte:02x}" for byte in random.token_bytes(3)),
            ports=ports,
            control_key=make_private_key(),
            host_key=make_private_key(),
            hypervisor=hypervisor.kind,
            on_add=note_added,
        )
        vm = self.find(record.id)
        vm.tell("created", record)
        try:
            # Otherwise its start describes it, which comes next.
            if not request.start or request.origin is not None:
                # Nobody deletes it in between.
                async with vm.lock:
                    await vm.save_file(record)
            if request.origin is not None and request.origin.layer is not None:
                layer = request.origin.layer
                with held_layer(layer):
                    await asyncio.to_thread(make_overlay, vm.files.disk, layer, "qcow2", None)
            return await self.start(record.id, cold=request.cold) if request.start else record
        except BaseException:
            # Nobody asked for a VM that cannot be started: creating is all or nothing.
            await asyncio.shield(self.delete(record.id, force=True))
            raise

    async def start(self, name: str, *, cold: bool = False) -> VmRecord:
        """Start a VM that does not run; returns while it boots. Failed to start: an error, and state failed."""
        async with self.locked(name) as vm:
            return await vm.start(cold=cold)

    async def stop(self, name: str, *, timeout_seconds: float = 30.0, force: bool = False) -> VmRecord:
        """Stop a VM: in order, by force when that takes too long or is asked for."""
        async with self.locked(name) as vm:
            if vm.record.state is VmState.SUSPENDED:
                return await drop_memory(vm, force=force)
            return await vm.stop(timeout_seconds, force=force)

    async def restart(self, name: str, *, timeout_seconds: float = 30.0) -> VmRecord:
        record = self._registry.get(name)
        if record.state is VmState.SUSPENDED:
            record = await self.start(record.id)
        if record.state in WITH_PROCESS:
            await self.stop(record.id, timeout_seconds=timeout_seconds)
        return await self.start(record.id)

    async def pause(self, name: str) -> VmRecord:
        async with self.locked(name) as vm:
            return await pause_vm(vm, self.domain.find_hypervisor(vm.record.hypervisor).capabilities)

    async def unpause(self, name: str) -> VmRecord:
        async with self.locked(name) as vm:
            return await unpause_vm(vm)

    async def suspend(self, name: str) -> VmRecord:
        """Its memory goes to the disk, its process ends."""
        async with self.locked(name) as vm:
            return await suspend_vm(vm, self.domain.find_hypervisor(vm.record.hypervisor))

    async def resume(self, name: str) -> VmRecord:
        """A suspended VM goes on where it was, or boots where its memory is of no use any more."""
        async with self.locked(name) as vm:
            if vm.record.state is not VmState.SUSPENDED:
                raise WrongState(f"cannot resume VM {vm.record.name}: it is {vm.record.state.value}")
            return await vm.start()

    async def update(self, name: str, update: VmUpdate) -> VmRecord:
        async with self.locked(name) as vm:
            if update.kernel:
                await self._find_kernel(vm.record.definition, update.kernel)
            if update.egress:
                boot = self.domain.plugins.get(vm.record.plugin_reference).boot
                wanted = vm.record.definition.model_copy(update={"egress": update.egress})
                check_egress(self.domain, vm.record.name, wanted, boot)
            record = vm.update(update)
            await hold_egress(vm, self.domain)
            return await resize_vm(vm, self.domain.find_hypervisor(record.hypervisor).capabilities)

    async def _find_kernel(self, definition: VmDefinition, name: str | None) -> None:
        """NotFound where there is none, and ready to be booted afterwards."""
        architecture = definition.architecture or host_architecture()
        await asyncio.to_thread(find_guest_kernel, self.domain.settings, architecture, name)

    async def delete(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a VM with its disk, and with `volumes` those that were made with it; one that runs is stopped first,
        at once with `force`. One whose disks are being fetched does not come to be."""
        if not self._registry.has_name(name) and self._makings.cancel(name):
            return
        async with self.locked(name) as vm:
            record = vm.record
            if record.state in WITH_PROCESS:
                asked = record.definition.workload.stop_timeout_seconds or 0.0
                with contextlib.suppress(StorageFull):
                    await vm.stop(max(DELETE_STOP_SECONDS, asked), force=force)
            definition = let_go_of_made(record.definition) if volumes else record.definition
            try:
                record = self._registry.update(record, deleting=True, definition=definition)
            except StorageFull:
                # Its disk goes for good in any case, and makes the room that is missing.
                await vm.remove_files()
                record = self._registry.update(record, deleting=True, definition=definition)
            await self.finish_delete(vm, record)

    async def finish_delete(self, vm: RunningVm, record: VmRecord) -> None:
        await vm.take_down(record)
        is_layered = has_layers(vm.files.disk)
        await vm.remove_files()
        await remove_going(self.domain, record)
        self._registry.remove(record)
        self._vms.pop(record.id, None)
        vm.tell("deleted", record)
        if is_layered:
            self.background.run(
                asyncio.to_thread(self.free_layers), f"removal of what {record.name} stood on"
            )

    # What people look at

    def get(self, name: str) -> VmRecord:
        return self._registry.get(name)

    def list_all(self) -> list[VmRecord]:
        return self._registry.list_all()

    def find_names(self) -> dict[str, tuple[str, ...]]:
        """Addresses of the bridged VMs by name."""
        return self._registry.list_bridged()

    async def connect(self, name: str, timeout_seconds: float = AGENT_WAIT_SECONDS) -> Guest:
        """The agent's connection of a VM that runs; WrongState or Unreachable otherwise."""
        return await self.find(self._registry.get(name).id).connect(timeout_seconds)

    @asynccontextmanager
    async def enter(self, name: str) -> AsyncIterator[Guest]:
        """As `connect`, for somebody who is in the guest for a while: it is not idle meanwhile, and is woken where it
        sleeps because it was."""
        record = self._registry.get(name)
        vm = self.find(record.id)
        with vm.use.session():
            if record.state is VmState.SUSPENDED and sleeps_when_idle(record):
                await vm.wake()
            yield await vm.connect()

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[RunningVm]:
        """The VM once everything else that people asked of it has been done."""
        vm = self.find(self._registry.get(name).id)
        async with vm.lock:
            yield vm

    async def release_all(self) -> None:
        """The daemon ends; VMs run on."""
        await self.background.cancel_all()
        await asyncio.gather(*(vm.release() for vm in list(self._vms.values())), return_exceptions=True)
        await self.domain.carrier.close()
        await self.domain.shared_network.close()
        self._vms.clear()
