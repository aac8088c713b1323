# SPDX-License-Identifier: Apache-2.0
"""A VM's spec and its shape, for tests of templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from volant.errors import Unreachable
from volant.volantd.hypervisors.base import (
    DiskDrive,
    EndKind,
    HostSupport,
    Hypervisor,
    MachineEnd,
    MemoryImage,
    StreamNic,
    VmSpec,
)
from volant.volantd.templates.shape import Shape, find_shape


def make_spec(folder: Path) -> VmSpec:
    """Of a VM whose files lie in `folder`; the kernel and the hypervisor's program are made there."""
    _make(folder / "kernel")
    return VmSpec(
        id="1f2e", name="web", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=128,
        disks=(DiskDrive(folder / "root.qcow2", "qcow2", "root", backing=(folder / "below",)),),
        nics=(StreamNic("52:54:00:12:34:56", folder / "net.sock"),), socket_folder=folder,
        console_log=folder / "console.log", hypervisor_log=folder / "qemu.log", kernel=folder / "kernel",
        initrd=folder / "boot.cpio", tsc_khz=2_000_000,
    )  # fmt: skip


def make_support(folder: Path, version: str = "7.2.0") -> HostSupport:
    _make(folder / "qemu")
    return HostSupport(str(folder / "qemu"), version, "microvm", "mmio", "tcg", "")


def _make(program: Path) -> None:
    """Once: a file with another time is another program."""
    if not program.exists():
        program.touch()


@dataclass
class TemplateHypervisor:
    """Its machines say that they wait, or fail as they are told to."""

    kind: str = "qemu"
    failure: Exception | None = None
    started: list[VmSpec] = field(default_factory=list)
    killed: int = 0

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return {"devices": repr(replace(spec, kernel=None))}

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> TemplateHypervisor:
        self.started.append(spec)
        spec.console_log.touch()
        return self

    async def open_folders(self) -> Any:
        raise Unreachable("there is no guest")

    async def open_control(self) -> Any:
        return None

    async def pause(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def save_memory(self, folder: Path) -> MemoryImage:
        image = MemoryImage(folder, has_pages=True)
        image.state.write_bytes(b"state")
        image.memory.write_bytes(b"memory")
        return image

    async def kill(self) -> MachineEnd:
        self.killed += 1
        return MachineEnd(EndKind.KILLED)


def make_shape(folder: Path, hypervisor: object, spec: VmSpec | None = None, version: str = "7.2.0") -> Shape:
    base = folder / "base.cpio"
    base.write_bytes(b"base")
    found = spec or make_spec(folder)
    return find_shape(
        found,
        make_support(folder, version),
        base,
        ["virtio.ko", "virtio_blk.ko"],
        cast("Hypervisor", hypervisor),
    )
