# SPDX-License-Identifier: Apache-2.0
"""What VMs have in common that can wake from one template: everything but names, files, network and settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from volant.volantd.hypervisors.base import DiskDrive, HostSupport, Hypervisor, SilentNic, VmSpec
from volant.volantd.templates.workload import Workload

# The locally administered prefix of QEMU's, and no address that a VM has.
HARDWARE_PREFIX = "52:54:01:00:00:"
NOWHERE = Path("/")
# Further apart two measurements of one host are not.
TSC_STEP_KHZ = 17_001
INITRD = "boot.cpio"
DISK = "disk"


@dataclass(frozen=True, slots=True)
class Shape:
    """`key` is equal where a template serves; `versions` differ where programs were exchanged since."""

    key: str
    versions: str
    spec: VmSpec
    """Of a VM of this shape; `make_template_spec` makes a template's of it."""
    base: Path
    """The boot archive's part that VMs share, with the agent and these modules."""
    modules: tuple[str, ...]
    workload: Workload | None = None
    """None: the agent alone is up."""


def find_shape(
    spec: VmSpec, support: HostSupport, base: Path, modules: Iterable[str], hypervisor: Hypervisor
) -> Shape:
    versions = _digest(
        [
            support.program,
            support.version,
            *_identify(Path(support.program)),
            *_identify(spec.kernel),
            base.name,
        ]
    )
    traits = sorted(hypervisor.find_traits(make_template_spec(spec, NOWHERE)).items())
    # Of the kernel's command line, and of disks that the template has, too.
    further = [str(_round(spec.tsc_khz)), *spec.extra_cmdline]
    further += [part for disk in spec.disks[1:] for part in _identify(disk.path)]
    key = _digest([versions, *(part for trait in traits for part in trait), *further])
    return Shape(key, versions, spec, base, tuple(modules))


def add_workload(shape: Shape, workload: Workload) -> Shape:
    """The shape of VMs that are the same in this, too."""
    return replace(shape, key=_digest([shape.key, *workload.identify()]), workload=workload)


def make_template_spec(spec: VmSpec, folder: Path, workload: Workload | None = None) -> VmSpec:
    """The machine of a template of such a VM, with its files in `folder`: nothing in it is the VM's own."""
    root = DiskDrive(folder / DISK, "raw", spec.disks[0].serial)
    if workload is not None:
        root = replace(root, format="qcow2", backing=(workload.payload,))
    nics = tuple(SilentNic(f"{HARDWARE_PREFIX}{number:02x}") for number, _ in enumerate(spec.nics))
    return replace(
        spec, id="0", name="template", disks=(root, *spec.disks[1:]), nics=nics, socket_folder=folder,
        console_log=folder / "console.log", hypervisor_log=folder / "hypervisor.log", initrd=folder / INITRD,
        wakes_from=None,
    )  # fmt: skip


def list_hardware_addresses(spec: VmSpec) -> list[str]:
    """What the cards of a VM have when it wakes from a template."""
    return [nic.mac for nic in make_template_spec(spec, NOWHERE).nics]


def _round(tsc_khz: int | None) -> int | None:
    """Of one host it is measured again and again, and never quite the same; memory of another host is of no use."""
    return tsc_khz and round(tsc_khz / TSC_STEP_KHZ)


def _identify(path: Path | None) -> list[str]:
    """Enough to see that a file is another one."""
    if path is None:
        return []
    status = path.stat()
    return [str(path), str(status.st_size), str(status.st_mtime_ns)]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
