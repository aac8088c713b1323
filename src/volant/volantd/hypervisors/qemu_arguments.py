# SPDX-License-Identifier: Apache-2.0
"""QEMU's argument list as a pure function of a VM's spec; the golden lists are in the test of the same name.

Choices that were measured or cost someone an evening:

- Under TCG the `microvm` machine has nothing to calibrate the TSC against and hangs on a busy host, so the guest is
  told the rate; plain `-cpu max` hangs with five-level page tables; `pit=off` or `pic=off` slow the boot down.
- Under TCG "rep movsb" is emulated byte by byte; kernel and C library take it where the processor says that it is
  fast (erms, fsrm). Without, a guest reads its disk at 420 MiB/s, not 160, and a virtio-serial port at 260, not 130.
- Under KVM neither `pit=off` nor `pic=off` gained anything in two boots, and they hung the third (nested, on an
  emulated processor): both stay on.
- Under KVM `-cpu host` brings x2apic, and ioeventfd is QEMU's default for virtio: neither is named (`make test-kvm`
  looks for x2apic). Huge pages are the host's to give: RAM is a memfd, which has them where the kernel's
  `shmem_enabled` says so; of reserved ones (`hugetlb=on`) a copy that writes one byte would take two megabytes.
- ACPI stays on: distribution kernels find virtio-mmio devices in its tables only.
- A virtio-rng device always: without it the guest has no entropy for seconds.
- `-nodefaults -no-user-config`: nothing that the host's configuration adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.contract.agents import Architecture
from volant.contract.guest_config import CONTROL_PORT_NAME, FOLDERS_PORT_NAME
from volant.errors import InvalidInput
from volant.volantd.hypervisors.base import (
    FIRST_TAP_DESCRIPTOR,
    MEMORY_DESCRIPTOR,
    SOCKET_PATH_LIMIT,
    DiskDrive,
    Nic,
    SharedNic,
    SilentNic,
    StreamNic,
    TapNic,
    VmSpec,
)

GUEST_ADDRESS = "10.0.2.15"
TCG_CACHE_MIB = 64
SERIAL_LIMIT = 20


@dataclass(frozen=True, slots=True)
class QemuSockets:
    """What QEMU listens on for this daemon: the agent's port, the serial console, its own control, and the stream of
    folders of the host where there are any."""

    control: Path
    console: Path
    qmp: Path
    folders: Path

    @property
    def all(self) -> tuple[Path, ...]:
        return self.control, self.console, self.qmp, self.folders


def name_sockets(folder: Path) -> QemuSockets:
    return QemuSockets(
        folder / "control.sock", folder / "console.sock", folder / "qmp.sock", folder / "folders.sock"
    )


def make_qemu_arguments(spec: VmSpec, program: str, *, sandbox: bool = True) -> list[str]:
    """The whole command: `program` and its arguments. InvalidInput for what QEMU would misread."""
    _check(spec)
    suffix = "pci" if spec.machine == "q35" else "device"
    return [
        program,
        *_process(spec, sandbox),
        *_machine(spec),
        *_boot(spec),
        *_consoles(spec, suffix),
        *(argument for index, disk in enumerate(spec.disks) for argument in _disk(index, disk, spec, suffix)),
        *(argument for index, nic in enumerate(spec.nics) for argument in _nic(index, nic, suffix)),
        "-object", "rng-random,id=entropy,filename=/dev/urandom",
        "-device", f"virtio-rng-{suffix},rng=entropy",
    ]  # fmt: skip


def _check(spec: VmSpec) -> None:
    for socket in name_sockets(spec.socket_folder).all:
        if len(bytes(socket)) > SOCKET_PATH_LIMIT:
            raise InvalidInput(
                f"cannot start {spec.name}: the path {socket} is longer than a socket's {SOCKET_PATH_LIMIT} bytes",
                resolution="choose a state folder with a shorter path",
            )
    for disk in spec.disks:
        if len(disk.serial.encode()) > SERIAL_LIMIT or "," in disk.serial:
            raise InvalidInput(
                f"cannot attach {disk.path}: {disk.serial!r} is no disk serial of 20 bytes or less"
            )


def _escape(value: object) -> str:
    """A comma inside a QEMU option's value is written twice."""
    return str(value).replace(",", ",,")


def _process(spec: VmSpec, sandbox: bool) -> Iterator[str]:
    yield from ("-name", f"guest={_escape(spec.name)}", "-nodefaults", "-no-user-config", "-display", "none")
    # A guest that asks for a reset ends the process: the daemon decides and starts it again.
    yield "-no-reboot"
    if sandbox:
        yield from ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")


def _machine(spec: VmSpec) -> Iterator[str]:
    options = {
        # rtc: the kernel reads the time once; usb, graphics, isa-serial: nothing more than needed
        "microvm": "microvm,pit=on,pic=on,rtc=on,isa-serial=on,acpi=on",
        "q35": "q35,usb=off,vmport=off,smbus=off",
        "virt": "virt,gic-version=max,usb=off",
    }[spec.machine]
    yield from ("-object", _memory(spec))
    yield from _uefi(spec)
    flash = ",pflash0=uefi-code,pflash1=uefi-variables" if spec.uefi is not None else ""
    yield from ("-machine", f"{options},dump-guest-core=off,mem-merge=off,memory-backend=ram{flash}")
    accelerator = "kvm" if spec.accelerator == "kvm" else f"tcg,tb-size={TCG_CACHE_MIB}"
    yield from ("-accel", accelerator, "-cpu", _cpu(spec))
    yield from ("-smp", str(spec.vcpu), "-m", f"{spec.memory_mb}M")
    if spec.machine != "q35":
        yield from ("-global", "virtio-mmio.force-legacy=false")


def _cpu(spec: VmSpec) -> str:
    """Virtualization only for who asked for it: for all others it is but one more part of KVM to attack."""
    if spec.architecture == "arm64":
        return "host" if spec.accelerator == "kvm" else "max,pauth-impdef=on"
    if spec.accelerator == "kvm":
        return "host" if spec.nested else "host,vmx=off,svm=off"
    # Without these two a guest copies eight bytes at a time, as emulation does best, and not one.
    copies = "erms=off,fsrm=off"
    return f"max,la57=off,{copies}" if spec.nested else f"max,la57=off,{copies},svm=off"


def _uefi(spec: VmSpec) -> Iterator[str]:
    if spec.uefi is None:
        return
    for name, path, is_read_only in (("code", spec.uefi[0], True), ("variables", spec.uefi[1], False)):
        blockdev = {
            "driver": "raw",
            "node-name": f"uefi-{name}",
            "read-only": is_read_only,
            "file": {"driver": "file", "filename": str(path)},
        }
        yield from ("-blockdev", json.dumps(blockdev, separators=(",", ":")))


def _memory(spec: VmSpec) -> str:
    """RAM that a snapshot can be copied from, or a private view of such a copy."""
    common = f"id=ram,size={spec.memory_mb}M"
    if spec.wakes_from is not None and spec.wakes_from.is_copied:
        return f"memory-backend-file,{common},mem-path=/proc/self/fd/{MEMORY_DESCRIPTOR},share=on"
    if spec.wakes_from is not None and spec.wakes_from.has_pages:
        return f"memory-backend-file,{common},mem-path={_escape(spec.wakes_from.memory)},share=off"
    return f"memory-backend-memfd,{common},share=on"


def _boot(spec: VmSpec) -> Iterator[str]:
    if spec.wakes_from is not None:
        yield from ("-incoming", "defer")
    if spec.kernel is None:
        return
    yield from ("-kernel", str(spec.kernel))
    if spec.initrd is not None:
        yield from ("-initrd", str(spec.initrd))
    yield from ("-append", " ".join(make_command_line(spec)))


def make_usual_parameters(architecture: Architecture) -> list[str]:
    """Those that serve on every machine."""
    console = "console=ttyAMA0" if architecture == "arm64" else "console=ttyS0"
    return [console, "quiet", "panic=-1", "cryptomgr.notests", "random.trust_cpu=on"]


def make_command_line(spec: VmSpec) -> list[str]:
    """The kernel's parameters. A panic resets at once, which ends the process with the reason on the
    console."""
    parameters = make_usual_parameters(spec.architecture)
    if spec.architecture == "amd64":
        parameters += ["reboot=t"]
        if spec.accelerator == "tcg" and spec.tsc_khz is not None:
            parameters += [f"tsc_early_khz={spec.tsc_khz}", "tsc=reliable"]
    return [*parameters, *spec.extra_cmdline]


def _consoles(spec: VmSpec, suffix: str) -> Iterator[str]:
    """Serial console (a socket that also goes to a file), the agent's control port, and QMP."""
    sockets = name_sockets(spec.socket_folder)
    yield from (
        "-chardev",
        f"socket,id=console,path={_escape(sockets.console)},server=on,wait=off,"
        f"logfile={_escape(spec.console_log)},logappend=on",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=control,path={_escape(sockets.control)},server=on,wait=off",
        "-device", f"virtio-serial-{suffix},max_ports={3 if spec.has_folders else 2}",
        "-device", f"virtserialport,chardev=control,name={CONTROL_PORT_NAME}",
        "-chardev", f"socket,id=qmp,path={_escape(sockets.qmp)},server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    )  # fmt: skip
    if spec.has_folders:
        yield from ("-chardev", f"socket,id=folders,path={_escape(sockets.folders)},server=on,wait=off")
        yield from ("-device", f"virtserialport,chardev=folders,name={FOLDERS_PORT_NAME}")


def _disk(index: int, disk: DiskDrive, spec: VmSpec, suffix: str) -> Iterator[str]:
    name = f"disk{index}"
    # JSON: paths with commas need no escaping. What the guest discards becomes free space on the host.
    blockdev = {
        "driver": disk.format,
        "node-name": name,
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": {"driver": "file", "filename": str(disk.path), "locking": "auto"},
    }
    device = f"virtio-blk-{suffix},id=drive{index},drive={name},serial={disk.serial}"
    if spec.kernel is None:
        device += f",bootindex={index}"
    # A full host disk is reported to the guest's write and to us, the VM is not stopped for good (the
    # default).
    yield from (
        "-blockdev",
        json.dumps(blockdev, separators=(",", ":")),
        "-device",
        f"{device},werror=enospc",
    )


def number_taps(spec: VmSpec, taps: Sequence[int]) -> dict[int, int]:
    """The numbers that the process has for tap devices that are brought to it opened."""
    shared = [index for index, nic in enumerate(spec.nics) if isinstance(nic, SharedNic)]
    return {FIRST_TAP_DESCRIPTOR + index: tap for index, tap in zip(shared, taps, strict=True)}


def _nic(index: int, nic: Nic, suffix: str) -> Iterator[str]:
    name = f"net{index}"
    if isinstance(nic, TapNic | SharedNic):
        yield from ("-netdev", f"tap,id={name},fd={FIRST_TAP_DESCRIPTOR + index}")
    elif isinstance(nic, SilentNic):
        yield from ("-netdev", f"hubport,id={name},hubid={index}")
    elif isinstance(nic, StreamNic):
        where = f"addr.type=unix,addr.path={_escape(nic.socket)}"
        yield from ("-netdev", f"stream,id={name},server=off,{where}")
    else:
        forwards = "".join(
            f",hostfwd={port.protocol}:{port.host_ip}:{port.host_port}-{GUEST_ADDRESS}:{port.guest_port}"
            for port in nic.published
        )
        restrict = ",restrict=on" if nic.is_restricted else ""
        yield from ("-netdev", f"user,id={name},ipv6=off{restrict}{forwards}")
    # No announcements after a wake: the guest would make them with the name and address of whom it was copied from,
    # and QEMU, told to ask for none, ends by SIGSEGV when a guest that could make them resets the device (7.2).
    device = f"virtio-net-{suffix},netdev={name},mac={nic.mac},guest_announce=off"
    yield from ("-device", f"{device},romfile=" if suffix == "pci" else device)
