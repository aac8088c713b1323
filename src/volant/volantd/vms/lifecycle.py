# SPDX-License-Identifier: Apache-2.0
"""Plugin to running VM: the line's step 9, in `boot_vm`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from volant.contract.agents import Architecture, find_agent
from volant.contract.disk_probe import has_bios_code
from volant.contract.guest_config import MODULES_SERIAL
from volant.contract.kernel_arguments import split_kernel_arguments
from volant.volantd.boot.initrd import list_module_names, make_base_archive, write_initrd
from volant.volantd.boot.kernel import Kernel, host_architecture, require_kernel
from volant.volantd.boot.modules import ModuleFile, order_modules, want_modules
from volant.volantd.boot.named_kernels import require_named_kernel
from volant.volantd.boot.seed import LABEL as SEED_LABEL
from volant.volantd.boot.seed import write_seed
from volant.volantd.boot.uefi import make_variables, require_uefi
from volant.volantd.hypervisors.base import (
    SOCKET_PATH_LIMIT,
    DiskDrive,
    HostSupport,
    Hypervisor,
    Machine,
    Nic,
    VmSpec,
)
from volant.volantd.hypervisors.groups import join_group
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.network.user_mode import Reach
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.templates.shape import Shape, add_workload, find_shape
from volant.volantd.vms.disks import list_chain, make_overlay
from volant.volantd.vms.guest_settings import ROOT_SERIAL, make_guest_config
from volant.volantd.vms.networking import Attachment, attach, choose_reach, make_nics
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.seed_documents import make_seed_documents
from volant.volantd.vms.volumes import make_drives
from volant.volantd.vms.warm_workload import find_workload

# A template leaves it to the VM that wakes (kestrel's boot/template.go): a driver looks at its disk once.
DISK_DRIVER = "virtio_blk"


@dataclass(frozen=True, slots=True)
class BootParts:
    """What a VM's boot archive has in common with others."""

    base: Path
    modules: tuple[ModuleFile, ...]


Remember = Callable[[VmSpec], Awaitable[None]]
StartMachine = Callable[[VmSpec], Awaitable[Machine]]
Wake = Callable[[VmSpec, Shape, HostSupport, StartMachine], Awaitable[Machine | None]]
Shapes = Sequence[Shape]
Started = tuple[Machine, Shapes]


async def no_wake(
    _spec: VmSpec, _shape: Shape, _support: HostSupport, _start: StartMachine
) -> Machine | None:
    return None


@dataclass(frozen=True, slots=True)
class VmFiles:
    """Where one VM keeps its things. Sockets go to the runtime folder where the state folder's path is too
    long."""

    folder: Path
    sockets: Path

    @property
    def disk(self) -> Path:
        return self.folder / "root.qcow2"

    @property
    def borrowed(self) -> Path:
        """A mark: `disk` is a template's as yet."""
        return self.folder / "borrowed-disk"

    @property
    def initrd(self) -> Path:
        return self.folder / "boot.cpio"

    @property
    def seed(self) -> Path:
        return self.folder / "seed.iso"

    @property
    def uefi_variables(self) -> Path:
        return self.folder / "uefi-variables"

    @property
    def console_log(self) -> Path:
        return self.folder / "console.log"

    @property
    def hypervisor_log(self) -> Path:
        return self.folder / "hypervisor.log"

    @property
    def process_log(self) -> Path:
        return self.folder / "process.log"


def find_files(settings: Settings, vm_id: str) -> VmFiles:
    folder = settings.vms_dir / vm_id
    fits = len(os.fsencode(folder / "console.sock")) <= SOCKET_PATH_LIMIT
    return VmFiles(folder, folder if fits else settings.runtime_dir / f"vm-{vm_id}")


async def boot_vm(
    record: VmRecord,
    plugin: StoredPlugin,
    hypervisor: Hypervisor,
    settings: Settings,
    remember: Remember,
    wake: Wake = no_wake,
    network: SharedNetwork | None = None,
) -> Started:
    """Start a VM's process, and tell the shapes of which it would have woken rather. `remember` stores the spec before
    the process exists, so that no process is ever lost. `wake` is asked first, for a machine that need not boot.
    `network`: where it is with other VMs, in user mode."""
    files = find_files(settings, record.id)
    make_folders(files)
    return_disk(files)
    is_new = not files.disk.exists()
    architecture = record.definition.architecture or host_architecture()
    kernel = None
    if plugin.boot == "kernel":
        kernel = await asyncio.to_thread(find_guest_kernel, settings, architecture, record.definition.kernel)
    support = await hypervisor.find_support(
        architecture, kernel=kernel.image if kernel else None, firmware=kernel is None
    )
    if plugin.kind == "rootfs":
        size_bytes = record.definition.disk_size_bytes
        await asyncio.to_thread(make_overlay, files.disk, plugin.payload, plugin.format, size_bytes)
    uefi: tuple[Path, Path] | None = None
    reach: Reach = (
        "shared" if network is not None else choose_reach(settings, support.version, record.definition.egress)
    )
    shapes: Shapes = ()
    if kernel is not None:
        parts = await asyncio.to_thread(find_boot_parts, record, kernel, support, settings)
        spec = make_spec(record, plugin, kernel, support, settings, reach, network=network)
        if hypervisor.capabilities.templates and can_wake(record, plugin, parts):
            shapes = list_shapes(record, plugin, spec, support, parts, hypervisor, is_new=is_new)
            start = partial(start_attached, record, reach, files, hypervisor, remember, network)
            for number, shape in enumerate(shapes):
                if (machine := await wake(spec, shape, support, start)) is not None:
                    return machine, shapes[:number]
        await asyncio.to_thread(write_boot_archive, record, plugin, parts, support, files, spec.nics)
    else:
        await asyncio.to_thread(write_seed_disk, record, plugin, files)
        uefi = await asyncio.to_thread(prepare_uefi, plugin, files, architecture)
        spec = make_spec(record, plugin, None, support, settings, reach, uefi)
    machine = await start_attached(record, reach, files, hypervisor, remember, network, spec)
    return machine, shapes


def can_wake(record: VmRecord, plugin: StoredPlugin, parts: BootParts) -> bool:
    """Whether such a VM can wake from a template: its root is a disk, whose driver the template has not loaded, and it
    has no disk that a template lacks."""
    return (
        plugin.kind == "rootfs"
        and not record.definition.volumes
        and any(module.name == DISK_DRIVER for module in parts.modules)
    )


def list_shapes(
    record: VmRecord,
    plugin: StoredPlugin,
    spec: VmSpec,
    support: HostSupport,
    parts: BootParts,
    hypervisor: Hypervisor,
    *,
    is_new: bool,
) -> Shapes:
    """Of templates that such a VM can wake from, the best first. `is_new`: its disk holds nothing of its own."""
    modules = list_module_names(parts.modules)
    shape = find_shape(spec, support, parts.base, modules, hypervisor)
    workload = find_workload(record, plugin, modules, support, spec) if is_new else None
    return (shape,) if workload is None else (add_workload(shape, workload), shape)


async def start_attached(
    record: VmRecord,
    reach: Reach,
    files: VmFiles,
    hypervisor: Hypervisor,
    remember: Remember,
    network: SharedNetwork | None,
    spec: VmSpec,
) -> Machine:
    """Start a machine with its network, which comes up beside it."""
    attachment = await attach(record, reach, files.folder, files.sockets, network)
    try:
        await remember(spec)
        machine = await hypervisor.start(spec, attachment.taps)
        await wait_for_network(attachment, machine, record.id)
    except BaseException:
        attachment.close()
        raise
    finally:
        attachment.release()
    return machine


async def wait_for_network(attachment: Attachment, machine: Machine, vm_id: str) -> None:
    """It came up beside the hypervisor, and counts as part of the VM; where it does not, the machine is of no use."""
    if attachment.private is not None:
        processes = tuple(attachment.private.processes)
        await asyncio.to_thread(join_group, vm_id, machine.identity.pid, processes)
    try:
        await attachment.wait_ready()
    except BaseException:
        await asyncio.shield(machine.kill())
        raise


def return_disk(files: VmFiles) -> None:
    """Where its disk is a template's, the VM never was itself on it: it has none."""
    if files.borrowed.exists():
        files.disk.unlink(missing_ok=True)
        files.borrowed.unlink()


def make_folders(files: VmFiles) -> None:
    for folder in (files.folder, files.sockets):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def find_guest_kernel(settings: Settings, architecture: Architecture, name: str | None = None) -> Kernel:
    """The kernel of that name, or the usual one; the one that settings give is for this host's own architecture."""
    if name is not None:
        return require_named_kernel(name, architecture, settings.kernels_dir)
    explicit = settings.kernel if architecture == host_architecture() else None
    return require_kernel(architecture, settings.kernels_dir, explicit)


def find_boot_parts(record: VmRecord, kernel: Kernel, support: HostSupport, settings: Settings) -> BootParts:
    """Agent and drivers, as the part of the boot archive that VMs share."""
    wanted = want_modules(
        support.bus,
        network=record.definition.network != "vsock",
        has_vsock_device=support.control == "vsock",
    )
    modules = order_modules(kernel.modules, wanted)
    return BootParts(
        make_base_archive(find_agent(kernel.architecture), modules, settings.cache_dir), tuple(modules)
    )


def write_boot_archive(
    record: VmRecord,
    plugin: StoredPlugin,
    parts: BootParts,
    support: HostSupport,
    files: VmFiles,
    nics: Sequence[Nic],
) -> None:
    """Agent, drivers and guest.json, appended to an initramfs plugin's own archive."""
    modules = list_module_names(parts.modules)
    config = make_guest_config(record, plugin, modules, support.control, nics)
    write_initrd(files.initrd, parts.base, config, plugin.payload if plugin.kind == "initramfs" else None)


def write_seed_disk(record: VmRecord, plugin: StoredPlugin, files: VmFiles) -> None:
    """Name, keys and user-data for the cloud-init of a disk that boots its own system."""
    documents = make_seed_documents(record, plugin)
    write_seed(
        files.seed,
        user_data=documents.user_data,
        meta_data=documents.meta_data,
        vendor_data=documents.vendor_data,
        network_config=documents.network_config,
    )


def prepare_uefi(
    plugin: StoredPlugin, files: VmFiles, architecture: Architecture
) -> tuple[Path, Path] | None:
    """UEFI's program and this VM's variables, where its disk has nothing for a BIOS; ToolMissing without any."""
    descriptor = os.open(plugin.payload, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if architecture == "amd64" and has_bios_code(descriptor, os.fstat(descriptor).st_size):
            return None
    finally:
        os.close(descriptor)
    uefi = require_uefi(architecture)
    make_variables(uefi, files.uefi_variables)
    return uefi.code, files.uefi_variables


def make_spec(
    record: VmRecord,
    plugin: StoredPlugin,
    kernel: Kernel | None,
    support: HostSupport,
    settings: Settings,
    reach: Reach,
    uefi: tuple[Path, Path] | None = None,
    network: SharedNetwork | None = None,
) -> VmSpec:
    files = find_files(settings, record.id)
    disks = (
        (DiskDrive(files.disk, "qcow2", ROOT_SERIAL, backing=tuple(list_chain(files.disk))[1:]),)
        if plugin.kind == "rootfs"
        else ()
    )
    if kernel is None:
        disks = (*disks, DiskDrive(files.seed, "raw", SEED_LABEL, read_only=True))
    elif kernel.module_disk is not None:
        disks = (*disks, DiskDrive(kernel.module_disk, "raw", MODULES_SERIAL, read_only=True))
    return VmSpec(
        id=record.id,
        name=record.name,
        architecture=record.definition.architecture or host_architecture(),
        machine=support.machine,
        accelerator=support.accelerator,
        vcpu=record.definition.resources.vcpu,
        memory_mb=record.definition.resources.memory_mb,
        disks=(*disks, *make_drives(record, settings.state_dir)),
        nics=make_nics(record, reach, files.sockets, network),
        socket_folder=files.sockets,
        console_log=files.console_log,
        hypervisor_log=files.hypervisor_log,
        kernel=kernel.image if kernel else None,
        initrd=files.initrd if kernel else None,
        extra_cmdline=split_kernel_arguments(record.definition.kernel_arguments) if kernel else (),
        tsc_khz=support.tsc_khz,
        uefi=uefi,
        nested=record.definition.resources.nested,
        disk_bytes_per_second=record.definition.disk_bytes_per_second,
        has_folders=bool(record.definition.mounts),
    )
