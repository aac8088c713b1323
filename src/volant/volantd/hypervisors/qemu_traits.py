# SPDX-License-Identifier: Apache-2.0
"""What of a QEMU machine its memory holds on to, beside the version: two machines of equal traits can wake from each
other's memory. Names, paths and addresses are no part of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from volant.volantd.hypervisors.base import (
    DiskDrive,
    Nic,
    SharedNic,
    SilentNic,
    StreamNic,
    TapNic,
    UserNic,
    VmSpec,
)
from volant.volantd.hypervisors.qemu_arguments import make_qemu_arguments

NOWHERE = Path("/nowhere")
NO_MAC = "52:54:00:00:00:00"
# Of the command, what the stream of a migration knows of: the machine, and of what stands behind a card its kind.
HARDWARE = ("-machine", "-cpu", "-smp", "-m", "-global", "-device")
KINDS = ("-accel", "-netdev", "-serial")
# Of these, what the host alone sees.
BEHIND = ("drive", "netdev", "chardev", "rng", "mac", "serial", "bootindex", "werror", "dump-guest-core", "mem-merge",
          "pflash0", "pflash1")  # fmt: skip


def find_traits(spec: VmSpec, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """By what they are called in an error: the hardware in a digest and, where the guest sees it, the processor.

    "devices" is all that a memory of older versions tells: a digest of the whole command, which other options end.
    """
    command = _strip(spec)
    traits = {"hardware": _digest(list_hardware(command)), "devices": _digest(command)}
    if spec.accelerator == "kvm":
        traits["processor"] = read_processor(cpuinfo.read_text())
    return traits


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def list_hardware(command: Sequence[str]) -> list[str]:
    """What of a command the guest's memory holds on to."""
    found = []
    for option, value in pairwise(command):
        first, *further = value.split(",")
        if option in KINDS:
            found += [option, first]
        elif option in HARDWARE:
            found += [option, first, *(part for part in further if part.partition("=")[0] not in BEHIND)]
    return found


def _strip(spec: VmSpec) -> list[str]:
    """The command of this machine if it were nobody's."""
    nobody = replace(
        spec, id="", name="", disks=tuple(_strip_disk(disk) for disk in spec.disks),
        nics=tuple(_strip_nic(nic) for nic in spec.nics), socket_folder=NOWHERE, console_log=NOWHERE,
        hypervisor_log=NOWHERE, kernel=spec.kernel and NOWHERE, initrd=spec.initrd and NOWHERE, wakes_from=None,
        extra_cmdline=(), tsc_khz=None, uefi=spec.uefi and (NOWHERE, NOWHERE),
    )  # fmt: skip
    return make_qemu_arguments(nobody, "qemu")


def _strip_disk(disk: DiskDrive) -> DiskDrive:
    return replace(disk, path=NOWHERE, backing=())


def _strip_nic(nic: Nic) -> Nic:
    match nic:
        case UserNic():
            return UserNic(NO_MAC)
        case StreamNic():
            return StreamNic(NO_MAC, NOWHERE)
        case TapNic() | SharedNic():
            return TapNic(NO_MAC, "tap")
        case SilentNic():
            return SilentNic(NO_MAC)


def read_processor(cpuinfo: str) -> str:
    """Model and features of the first processor (proc(5)), in a form that a person can compare."""
    first = cpuinfo.split("\n\n", 1)[0]
    fields = dict(re.findall(r"^(.*?)\s*:[ \t]*(.*)$", first, re.MULTILINE))
    model = fields.get("model name") or fields.get("CPU part", "unknown")
    features = sorted((fields.get("flags") or fields.get("Features", "")).split())
    return f"{model} ({hashlib.sha256(' '.join(features).encode()).hexdigest()[:8]})"
