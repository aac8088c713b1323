# SPDX-License-Identifier: Apache-2.0
"""UEFI for real: the distribution's firmware finds what it is to start on a disk, and keeps the VM's own variables."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from volant.volantd.boot.uefi import make_variables, require_uefi
from volant.volantd.hypervisors.base import DiskDrive, EndKind, VmSpec
from volant.volantd.hypervisors.qemu import Qemu

BOOT_SECONDS = 120
# Run by the firmware's own shell, which it falls back to: it finds no boot loader on this disk.
SETVAR = "setvar volant -guid 11111111-2222-3333-4444-555555555555 -nv -bs =0x2a"
SCRIPT = f"echo the disk has been read\r\n{SETVAR}\r\nreset -s\r\n"


def make_disk(folder: Path) -> Path:
    disk, script = folder / "system.img", folder / "startup.nsh"
    script.write_text(SCRIPT, newline="")
    with disk.open("wb") as stream:
        stream.truncate(4 << 20)
    subprocess.run(["/sbin/mkfs.fat", str(disk)], check=True, capture_output=True)
    subprocess.run(["mcopy", "-i", str(disk), str(script), "::startup.nsh"], check=True)
    return disk


async def test_a_disk_is_started_by_uefi_which_keeps_what_it_was_told(short_path: Path) -> None:
    qemu = Qemu(short_path / "cache")
    support = await qemu.find_support("amd64", kernel=None, firmware=True)
    uefi = require_uefi("amd64")
    variables = short_path / "uefi-variables"
    make_variables(uefi, variables)
    spec = VmSpec(
        id="1", name="test", architecture="amd64", machine=support.machine, accelerator=support.accelerator,
        tsc_khz=support.tsc_khz, vcpu=1, memory_mb=256, disks=(DiskDrive(make_disk(short_path), "raw", "root"),),
        nics=(), socket_folder=short_path, console_log=short_path / "console.log",
        hypervisor_log=short_path / "qemu.log", uefi=(uefi.code, variables),
    )  # fmt: skip
    machine = await qemu.start(spec)
    end = await asyncio.wait_for(machine.wait(), BOOT_SECONDS)
    assert end.kind is EndKind.POWERED_OFF
    assert b"the disk has been read" in spec.console_log.read_bytes()
    # UCS-2, as UEFI writes names; the firmware's program and the empty variables are everybody's and stay as they were.
    name = "volant".encode("utf-16-le")
    assert name in variables.read_bytes()
    assert name not in uefi.empty_variables.read_bytes()
