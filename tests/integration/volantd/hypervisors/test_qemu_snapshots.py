# SPDX-License-Identifier: Apache-2.0
"""A guest that counts is saved, goes on, and wakes several times from what was saved: at the number that came next."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from volant.cpio import CpioWriter
from volant.errors import Conflict, ToolFailed
from volant.volantd.boot.kernel import Kernel
from volant.volantd.hypervisors.base import DiskDrive, MachineState, MemoryImage, VmSpec
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.hypervisors.qemu_machine import QemuMachine
from volant.volantd.vms.disk_layers import prepare_layer
from volant.volantd.vms.disks import list_chain, make_overlay, read_backing

SECONDS = 120
COUNTING = b"""#!/bin/busybox sh
number=0
while :; do
    number=$((number + 1))
    echo "tick $number" >/dev/console
    /bin/busybox usleep 100000
done
"""


@pytest.fixture
def counting(tmp_path: Path, short_path: Path, kernel: Kernel) -> VmSpec:
    support = asyncio.run(Qemu(tmp_path / "host").find_support("amd64", kernel=kernel.image))
    busybox = Path(str(shutil.which("busybox"))).resolve().read_bytes()
    folder = short_path / "vm"
    folder.mkdir()
    with (folder / "initrd").open("wb") as stream:
        archive = CpioWriter(stream)
        for directory in (b"dev", b"bin"):
            archive.add_directory(directory)
        archive.add(b"dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        archive.add(b"bin/busybox", stat.S_IFREG | 0o755, busybox)
        archive.add(b"init", stat.S_IFREG | 0o755, COUNTING)
        archive.finish()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "root.qcow2"), "64M"], check=True)
    return VmSpec(
        id="1", name="counting", architecture="amd64", machine=support.machine, accelerator=support.accelerator,
        tsc_khz=support.tsc_khz, vcpu=1, memory_mb=192, nics=(),
        disks=(DiskDrive(folder / "root.qcow2", "qcow2", "root"),),
        socket_folder=folder, console_log=folder / "console.log", hypervisor_log=folder / "qemu.log",
        kernel=kernel.image, initrd=folder / "initrd",
    )  # fmt: skip


def copy_spec(spec: VmSpec, folder: Path, backing: Path, image: MemoryImage) -> VmSpec:
    """Another machine of the same shape, woken from the image, whose disk stands on `backing`."""
    folder.mkdir()
    (folder / "initrd").touch()  # its content has been taken already
    disk = folder / "root.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(backing), "-F", "qcow2", str(disk)], check=True
    )
    return dataclasses.replace(
        spec, id=folder.name, name=folder.name, disks=(DiskDrive(disk, "qcow2", "root", backing=(backing,)),),
        socket_folder=folder,
        console_log=folder / "console.log", hypervisor_log=folder / "qemu.log", initrd=folder / "initrd",
        wakes_from=image,
    )  # fmt: skip


def is_sound(disk: Path) -> bool:
    return subprocess.run(["qemu-img", "check", "-q", str(disk)], check=False).returncode == 0


def read_ticks(spec: VmSpec) -> list[int]:
    text = spec.console_log.read_text(errors="replace") if spec.console_log.exists() else ""
    return [int(number) for number in re.findall(r"tick ([0-9]+)\r?\n", text)]


async def wait_for_ticks(spec: VmSpec, count: int) -> list[int]:
    async with asyncio.timeout(SECONDS):
        while len(read_ticks(spec)) < count:  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.05)
    return read_ticks(spec)


async def test_a_machine_is_saved_goes_on_and_wakes_as_others(
    counting: VmSpec, tmp_path: Path, short_path: Path
) -> None:
    qemu = Qemu(tmp_path / "host")
    image_folder, again_folder = short_path / "image", short_path / "again"
    image_folder.mkdir()
    again_folder.mkdir()
    machines: list[QemuMachine] = []
    try:
        original = await qemu.start(counting)
        machines.append(original)
        await wait_for_ticks(counting, 3)
        with pytest.raises(Conflict, match="it is running"):
            await original.save_memory(image_folder)
        await original.pause()
        last = read_ticks(counting)[-1]
        image = await original.save_memory(image_folder)
        assert image.has_pages
        assert image.memory.stat().st_blocks * 512 < counting.memory_mb << 20
        assert {path.stat().st_mode & 0o777 for path in image_folder.iterdir()} == {0o600}
        disk = counting.disks[0].path
        prepared = prepare_layer(disk, short_path / "layers")
        assert await original.find_layer(0) == "disk0"
        await original.layer_disk(0, prepared.overlay, prepared.name)
        assert await original.find_layer(0) == prepared.name
        prepared.put_in_place()
        await original.resume()
        count = len(read_ticks(counting))
        ticks = await wait_for_ticks(counting, count + 2)
        assert ticks == list(range(1, len(ticks) + 1))  # it never stopped counting

        copies = []
        for name in ("one", "two"):
            spec = copy_spec(counting, short_path / name, prepared.layer, image)
            machines.append(await qemu.start(spec))
            assert machines[-1].state is MachineState.PAUSED
            await machines[-1].resume()
            copies.append(spec)
        for spec in copies:
            ticks = await wait_for_ticks(spec, 2)
            # A tick that was being written when the machine stopped is the copy's, too.
            assert ticks[0] in (last, last + 1)
            assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))

        # A machine that woke is saved in turn, with all of its memory in the state.
        await machines[1].pause()
        again = await machines[1].save_memory(again_folder)
        assert not again.has_pages
        last = read_ticks(copies[0])[-1]
        spec = copy_spec(counting, short_path / "three", prepared.layer, again)
        machines.append(await qemu.start(spec))
        await machines[-1].resume()
        assert (await wait_for_ticks(spec, 2))[0] in (last, last + 1)
        assert machines[1].state is MachineState.PAUSED
    finally:
        for machine in machines:
            await machine.kill()
    assert read_backing(disk) == prepared.layer
    assert is_sound(disk)


async def test_a_disk_is_copied_as_it_was_while_the_machine_runs(
    counting: VmSpec, tmp_path: Path, short_path: Path
) -> None:
    disk = counting.disks[0].path
    await run("qemu-io", "-f", "qcow2", "-c", "write -P 0x41 0 8M", str(disk))
    prepared = prepare_layer(disk, short_path / "layers")
    prepared.put_in_place()
    await run("qemu-io", "-f", "qcow2", "-c", "write -P 0x42 1M 1M", str(disk))
    spec = dataclasses.replace(counting, disks=(DiskDrive(disk, "qcow2", "root", backing=(prepared.layer,)),))
    machine = await Qemu(tmp_path / "host").start(spec)
    begun: list[int] = []

    async def begin() -> None:
        begun.append(len(read_ticks(spec)))

    try:
        await wait_for_ticks(spec, 2)
        for number in (1, 2):  # what the first one left behind would be in the second one's way
            copy = make_overlay(tmp_path / f"copy-{number}", prepared.layer, "qcow2", None)
            await machine.copy_disk(0, copy, begin)
            assert len(begun) == number
            for pattern in ("read -P 0x42 1M 1M", "read -P 0x41 2M 6M"):
                assert "failed" not in await run("qemu-io", "-r", "-f", "qcow2", "-c", pattern, str(copy))
            assert is_sound(copy) and read_backing(copy) == prepared.layer
            assert copy.stat().st_size < 4 << 20  # its own megabyte, not what lies below
        smaller = make_overlay(tmp_path / "smaller", tmp_path / "copy-1", "qcow2", None)
        await run("qemu-img", "resize", "-f", "qcow2", str(smaller), "96M")
        with pytest.raises(ToolFailed, match="cannot copy the disk of counting"):
            await machine.copy_disk(0, smaller, begin)
        await wait_for_ticks(spec, len(read_ticks(spec)) + 2)
    finally:
        await machine.kill()


async def test_layers_are_merged_while_the_machine_runs_and_others_keep_theirs(
    counting: VmSpec, tmp_path: Path, short_path: Path
) -> None:
    disk, layers = counting.disks[0].path, short_path / "layers"
    base = short_path / "base.qcow2"
    await run("qemu-io", "-f", "qcow2", "-c", "write -P 0x40 0 8M", str(disk))
    disk.rename(base)
    make_overlay(disk, base, "qcow2", None)
    await run("qemu-io", "-f", "qcow2", "-c", "write -P 0x41 1M 1M", str(disk))
    below = prepare_layer(disk, layers)
    below.put_in_place()
    await run("qemu-io", "-f", "qcow2", "-c", "write -P 0x42 2M 1M", str(disk))
    drive = DiskDrive(disk, "qcow2", "root", backing=tuple(list_chain(disk))[1:])
    spec = dataclasses.replace(counting, disks=(drive,))
    machine = await Qemu(tmp_path / "host").start(spec)
    patterns = ("read -P 0x40 0 1M", "read -P 0x41 1M 1M", "read -P 0x42 2M 1M", "read -P 0x40 3M 5M")
    try:
        tops = []
        for _ in range(2):
            prepared = prepare_layer(disk, layers)
            await machine.layer_disk(0, prepared.overlay, prepared.name)
            prepared.put_in_place()
            tops.append(prepared.layer)
        assert len(list(list_chain(disk))) == 5
        contents = {layer: layer.read_bytes() for layer in layers.iterdir()}
        assert await machine.merge_layers(0, base)
        assert list(list_chain(disk)) == [disk, base]
        assert {layer: layer.read_bytes() for layer in layers.iterdir()} == contents
        # None of them is open any more: what nobody else stands on is free once it is removed.
        assert [path for path in list_open_files(machine) if "/layers/" in path] == []
        # A snapshot goes on from there, and one that comes in the middle ends the merging.
        prepared = prepare_layer(disk, layers)
        await machine.layer_disk(0, prepared.overlay, prepared.name)
        prepared.put_in_place()
        merging = asyncio.create_task(machine.merge_layers(0, base))
        await asyncio.sleep(0)
        await machine.pause()
        folder = short_path / "image"
        folder.mkdir()
        assert (await machine.save_memory(folder)).has_pages
        await machine.resume()
        await merging
        await wait_for_ticks(spec, len(read_ticks(spec)) + 2)
        with pytest.raises(ToolFailed, match="does not have"):
            await machine.merge_layers(0, tmp_path / "absent")
    finally:
        await machine.kill()
    for image in (disk, *tops):
        for pattern in patterns:
            assert "failed" not in await run("qemu-io", "-r", "-f", "qcow2", "-c", pattern, str(image))
        assert is_sound(image)


def list_open_files(machine: QemuMachine) -> list[str]:
    return [os.readlink(entry) for entry in Path(f"/proc/{machine.identity.pid}/fd").iterdir()]


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_state_that_does_not_fit_is_an_error_and_leaves_no_process(
    counting: VmSpec, tmp_path: Path, short_path: Path
) -> None:
    qemu = Qemu(tmp_path / "host")
    folder = short_path / "image"
    folder.mkdir()
    image = MemoryImage(folder)
    image.state.write_bytes(b"no state of a machine" * 100)
    spec = dataclasses.replace(counting, wakes_from=image)
    with pytest.raises(ToolFailed, match="cannot wake counting"):
        await qemu.start(spec)
    assert qemu.find_process(spec) is None
