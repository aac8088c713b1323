# SPDX-License-Identifier: Apache-2.0
"""A plugin or a VM for a machine that is not volantd's: its kernel, its boot archive with settings for there, its disk.

The agent in it knows no host: it takes its address by DHCP, variables from a disk of files, its host key from nobody,
and ends in order when the machine's power button is pressed. Whoever exports again gets the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from volant.contract.agents import Architecture, find_agent
from volant.contract.boot_files import (
    DISK,
    DOCUMENT,
    ENVIRONMENT_FOLDER,
    ENVIRONMENT_SERIAL,
    INITRD,
    KERNEL,
    BootDocument,
)
from volant.contract.disk_probe import has_bios_code
from volant.contract.guest_config import Control, GuestConfig, Mount
from volant.errors import Conflict
from volant.tar_entries import stream_archive
from volant.volantd.boot.initrd import list_module_names, make_base_archive, write_archives
from volant.volantd.boot.kernel import Kernel, host_architecture
from volant.volantd.boot.modules import order_modules, want_modules
from volant.volantd.hypervisors.qemu_arguments import make_usual_parameters
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.vms.disks import read_virtual_size, run_qemu_img
from volant.volantd.vms.guest_settings import make_guest_config
from volant.volantd.vms.keys import make_private_key
from volant.volantd.vms.lifecycle import find_guest_kernel
from volant.volantd.vms.record import AgentFacts, VmDefinition, VmRecord, VmResources
from volant.volantd.vms.states import VmState

# The button, how its presses are read, and the file system of a disk of variables.
FURTHER_MODULES = ("button", "evdev", "isofs")
USUAL_STOP_SECONDS = 10.0
# In the VM's own folder: what a daemon that was killed leaves of it the next export writes over.
DRAFT = "exported.qcow2"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """`files` are open, and stay readable whatever becomes of their names; `chunks` closes them at its end."""

    document: BootDocument
    files: list[tuple[str, BinaryIO]]

    def chunks(self) -> Iterator[bytes]:
        """As a tar."""
        files = [(name, os.fstat(stream.fileno()).st_size, stream) for name, stream in self.files]
        return stream_archive(DOCUMENT, json.dumps(self.document).encode(), files)


def find_left_out(record: VmRecord) -> list[str]:
    """What of a VM cannot go elsewhere with it."""
    definition = record.definition
    return [
        *(f"volume {volume.name} at {volume.target}" for volume in definition.volumes),
        *(f"{mount.source} of this host at {mount.target}" for mount in definition.mounts),
        *(f"secret {secret.name}" for secret in definition.secrets),
    ]


def open_boot_files(
    record: VmRecord, plugin: StoredPlugin, settings: Settings, own_disk: Path | None, *, leaves_out: bool
) -> BootFiles:
    """Blocking. `own_disk`: that of a VM that does not run, in place of its plugin's. Raises Conflict where a VM has
    what would stay here, unless that is agreed to."""
    left_out = find_left_out(record) or [f"disk {disk.name} of the plugin" for disk in plugin.manifest.disks]
    if left_out and not leaves_out:
        raise Conflict(
            f"cannot export {record.name}: it has what stays on this host",
            details=left_out,
            resolution="leave it out: --without-attached",
        )
    architecture = _find_architecture(record, plugin)
    kernel = None
    if plugin.boot == "kernel":
        kernel = find_guest_kernel(settings, architecture, record.definition.kernel)
    with ExitStack() as stack:
        files: list[tuple[str, BinaryIO]] = []
        if kernel is not None:
            image = kernel.distributed or kernel.image
            files.append((KERNEL, stack.enter_context(image.open("rb"))))
            files.append((INITRD, stack.enter_context(_open_initrd(record, plugin, kernel, settings))))
        disk_format = None
        if plugin.kind == "rootfs":
            disk_format = plugin.format if own_disk is None else "qcow2"
            opened = plugin.payload.open("rb") if own_disk is None else _open_flat(own_disk)
            files.append((DISK, stack.enter_context(opened)))
        document = BootDocument(
            boot=plugin.boot,
            architecture=architecture,
            firmware=_find_firmware(plugin, architecture),
            kernel=kernel.version if kernel is not None else "",
            kernel_arguments=_make_kernel_arguments(record, architecture) if kernel is not None else "",
            mac=record.mac,
            disk_format=disk_format,
            disk_bytes=_find_disk_bytes(record, plugin, own_disk),
            environment=record.definition.env,
            run_once=record.definition.run_once or plugin.manifest.workload.type == "batch",
            stop_seconds=record.definition.workload.stop_timeout_seconds or USUAL_STOP_SECONDS,
            left_out=left_out,
        )
        stack.pop_all()
    return BootFiles(document, files)


def make_plugin_record(plugin: StoredPlugin) -> VmRecord:
    """A VM as its plugin would have it, which is nowhere."""
    manifest = plugin.manifest
    asked = manifest.resources
    digest = hashlib.sha256(f"{manifest.name}:{manifest.version}".encode()).hexdigest()
    return VmRecord(
        id=digest[:12], name=manifest.name, state=VmState.CREATED, reason="", wanted=False, plugin_name=manifest.name,
        plugin_version=manifest.version,
        definition=VmDefinition(
            resources=VmResources(vcpu=asked.vcpu, memory_mb=asked.memory_mb, nested=asked.nested), network="dhcp"
        ),
        address=None, mac=f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}", ports=(),
        control_key=make_private_key(), host_key="", hypervisor="qemu", process=None, spec=None,
        agent=AgentFacts(), guest=None, last_lines=(), exit_code=None, created_at="", started_at=None, deleting=False,
        restarts=0, pending=(),
    )  # fmt: skip


def make_settings(record: VmRecord, plugin: StoredPlugin, modules: list[str]) -> GuestConfig:
    """guest.json for a machine of somebody else's."""
    definition = record.definition.model_copy(
        update={
            "network": "dhcp",
            "env": {},
            "volumes": [],
            "mounts": [],
            "secrets": [],
            "placed_files": [file for file in record.definition.placed_files if file.secret_port is None],
        }
    )
    config = make_guest_config(replace(record, definition=definition), plugin, modules)
    mounts, folders = [], []
    if record.definition.env:
        variables = Mount(
            serial=ENVIRONMENT_SERIAL, target=ENVIRONMENT_FOLDER, fstype="iso9660", read_only=True
        )
        mounts, folders = [variables], [ENVIRONMENT_FOLDER]
    changes = {
        "vm_id": "",
        "control": Control(host_key="", authorized_keys=[]),
        "mounts": mounts,
        "environment_folders": folders,
        "unix_time_nanoseconds": 0,
    }
    return config.model_copy(update=changes)


def _open_initrd(record: VmRecord, plugin: StoredPlugin, kernel: Kernel, settings: Settings) -> BinaryIO:
    """For a machine with PCI; its name is gone already."""
    modules = order_modules(kernel.modules, (*want_modules("pci", network=True), *FURTHER_MODULES))
    base = make_base_archive(find_agent(kernel.architecture), modules, settings.cache_dir)
    config = make_settings(record, plugin, list_module_names(modules))
    stream = tempfile.TemporaryFile(dir=settings.cache_dir)  # noqa: SIM115  # the caller's to close
    write_archives(stream, base, config, plugin.payload if plugin.kind == "initramfs" else None)
    stream.seek(0)
    return stream


def _open_flat(disk: Path) -> BinaryIO:
    """A VM's disk with all that it stands on, in one file whose name is gone already."""
    target = disk.with_name(DRAFT)
    try:
        options = ("-O", "qcow2", "-c", "-o", "compression_type=zstd")
        run_qemu_img(target, "convert", "-q", "-f", "qcow2", *options, str(disk), str(target))
        return target.open("rb")
    finally:
        target.unlink(missing_ok=True)


def _find_architecture(record: VmRecord, plugin: StoredPlugin) -> Architecture:
    if record.definition.architecture is not None:
        return record.definition.architecture
    known: dict[str, Architecture] = {"amd64": "amd64", "arm64": "arm64"}
    return known.get(plugin.architecture) or host_architecture()


def _find_firmware(plugin: StoredPlugin, architecture: Architecture) -> Literal["bios", "uefi"]:
    if plugin.boot == "kernel" or architecture != "amd64":
        return "bios" if architecture == "amd64" else "uefi"
    with plugin.payload.open("rb") as stream:
        is_bios = has_bios_code(stream.fileno(), os.fstat(stream.fileno()).st_size)
    return "bios" if is_bios else "uefi"


def _make_kernel_arguments(record: VmRecord, architecture: Architecture) -> str:
    return " ".join([*make_usual_parameters(architecture), record.definition.kernel_arguments]).strip()


def _find_disk_bytes(record: VmRecord, plugin: StoredPlugin, own_disk: Path | None) -> int:
    if plugin.kind != "rootfs":
        return 0
    if own_disk is not None:
        return read_virtual_size(own_disk)
    size = read_virtual_size(plugin.payload) if plugin.format == "qcow2" else plugin.payload.stat().st_size
    return max(size, record.definition.disk_size_bytes or 0)
