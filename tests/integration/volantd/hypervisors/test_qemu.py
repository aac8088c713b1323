# SPDX-License-Identifier: Apache-2.0
"""The real QEMU with the real kernel; the guests need no disk and no agent."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support.memory_group import make_memory_group
from volant.contract.agents import find_agent
from volant.cpio import CpioWriter
from volant.errors import Conflict, ToolFailed
from volant.volantd.boot.kernel import Kernel
from volant.volantd.hypervisors.base import CauseKind, DiskDrive, EndKind, MachineState, UserNic, VmSpec
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.hypervisors.qemu_machine import QemuMachine
from volant.volantd.network.types import PublishedPort

BOOT_SECONDS = 90
BOUND = 256 << 10
MakeSpec = Callable[[bytes], VmSpec]
IDLE = b"x" * 4096
"""An /init that is no program: with `panic=0` the kernel panics and stays where it is."""


@pytest.fixture(scope="session")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Qemu:
    return Qemu(tmp_path_factory.mktemp("host"))


@pytest.fixture
async def make_spec(qemu: Qemu, kernel: Kernel, short_path: Path) -> AsyncIterator[MakeSpec]:
    support = await qemu.find_support("amd64", kernel=kernel.image)

    def make(init: bytes) -> VmSpec:
        with (short_path / "initrd").open("wb") as stream:
            archive = CpioWriter(stream)
            archive.add(b"init", stat.S_IFREG | 0o755, init)
            archive.finish()
        return VmSpec(
            id="1",
            name="test",
            architecture="amd64",
            machine=support.machine,
            accelerator=support.accelerator,
            tsc_khz=support.tsc_khz,
            vcpu=1,
            memory_mb=192,
            disks=(),
            nics=(),
            socket_folder=short_path,
            console_log=short_path / "console.log",
            hypervisor_log=short_path / "qemu.log",
            kernel=kernel.image,
            initrd=short_path / "initrd",
        )

    yield make


def stay(spec: VmSpec) -> VmSpec:
    return dataclasses.replace(spec, extra_cmdline=("panic=0",))


async def wait_for_console(spec: VmSpec, text: str) -> None:
    async with asyncio.timeout(BOOT_SECONDS):
        while not any(text in line for line in read_last_lines(spec.console_log, 100)):  # noqa: ASYNC110  # a file
            await asyncio.sleep(0.05)


async def test_a_panic_is_a_crash_with_the_kernels_words(qemu: Qemu, make_spec: MakeSpec) -> None:
    machine = await qemu.start(make_spec(IDLE))
    end = await asyncio.wait_for(machine.wait(), BOOT_SECONDS)
    assert end.kind is EndKind.CRASHED
    assert end.reason.startswith("Kernel panic - not syncing: No working init found")
    assert end.exit_code == 0
    assert end.cause is not None and end.cause.kind is CauseKind.PANIC
    assert end.cause.line == end.reason
    assert machine.state is MachineState.ENDED
    assert not (machine.spec.socket_folder / "qmp.sock").exists()
    assert machine.spec.console_log.stat().st_mode & 0o777 == 0o600


async def test_an_agent_without_settings_powers_off(qemu: Qemu, make_spec: MakeSpec) -> None:
    machine = await qemu.start(make_spec(find_agent("amd64").read_bytes()))
    end = await asyncio.wait_for(machine.wait(), BOOT_SECONDS)
    assert (end.kind, end.reason) == (EndKind.POWERED_OFF, "")


async def test_a_kill_at_its_memory_limit_is_told_as_such(qemu: Qemu, make_spec: MakeSpec) -> None:
    with make_memory_group(8 << 20) as group:
        machine = await qemu.start(make_spec(IDLE))
        # What it has already stays charged elsewhere; its guest's boot takes more than the group gives.
        (group / "cgroup.procs").write_text(str(machine.identity.pid))
        end = await asyncio.wait_for(machine.wait(), BOOT_SECONDS)
    assert (end.kind, end.signal) == (EndKind.CRASHED, "SIGKILL")
    assert end.cause is not None and end.cause.kind is CauseKind.MEMORY_LIMIT
    assert "more memory than its limit" in end.reason


async def test_a_port_in_use_is_a_conflict(qemu: Qemu, make_spec: MakeSpec) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        published = PublishedPort(host_ip="127.0.0.1", host_port=port, guest_port=80)
        spec = dataclasses.replace(make_spec(IDLE), nics=(UserNic("52:54:00:00:00:01", (published,)),))
        with pytest.raises(Conflict, match=f"127.0.0.1:{port} cannot be bound"):
            await qemu.start(spec)


async def test_what_qemu_refuses_is_shown_in_its_words(qemu: Qemu, make_spec: MakeSpec) -> None:
    spec = dataclasses.replace(make_spec(IDLE), initrd=Path("/no/such/initrd"))
    with pytest.raises(ToolFailed, match="QEMU ended with exit code 1") as raised:
        await qemu.start(spec)
    assert any("/no/such/initrd" in line for line in raised.value.details)


def make_boot_sector(text: bytes) -> bytes:
    """A disk's first 512 bytes: real-mode code that writes `text` to the serial port and halts."""
    code = bytes.fromhex("fc 31c0 8ed8 be167c baf803 ac 08c0 7403 ee ebf8 f4 ebfd")
    return (code + text + b"\0").ljust(510, b"\0") + b"\x55\xaa"


async def test_a_whole_system_disk_boots_by_firmware(
    qemu: Qemu, make_spec: MakeSpec, short_path: Path
) -> None:
    support = await qemu.find_support("amd64", kernel=None, firmware=True)
    assert support.machine == "q35"
    disk = short_path / "system.img"
    disk.write_bytes(make_boot_sector(b"the disk's own loader\r\n").ljust(1 << 20, b"\0"))
    spec = dataclasses.replace(
        make_spec(IDLE),
        machine=support.machine,
        accelerator=support.accelerator,
        kernel=None,
        initrd=None,
        disks=(DiskDrive(disk, "raw", "root"),),
        nics=(UserNic("52:54:00:00:00:01"),),
    )
    machine = await qemu.start(spec)
    await wait_for_console(spec, "the disk's own loader")
    await machine.kill()


POWER_OFF_AT_THE_BUTTON = bytes.fromhex(
    "fa ba0206 b80001 ef"  # no interrupts; ICH9's PM1_EN at 0x602: let the power button set its bit
    "ba0006 ed f6c401 74f7"  # PM1_STS at 0x600: until the button's bit is set
    "ba0406 b80020 ef f4"  # PM1_CNT at 0x604: SLP_EN with the type of "soft off"
)


async def test_the_power_button_reaches_a_system_of_its_own(
    qemu: Qemu, make_spec: MakeSpec, short_path: Path
) -> None:
    support = await qemu.find_support("amd64", kernel=None, firmware=True)
    disk = short_path / "system.img"
    disk.write_bytes((POWER_OFF_AT_THE_BUTTON.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    spec = dataclasses.replace(
        make_spec(IDLE),
        machine=support.machine,
        accelerator=support.accelerator,
        kernel=None,
        initrd=None,
        disks=(DiskDrive(disk, "raw", "root"),),
    )
    machine = await qemu.start(spec)
    ending = asyncio.create_task(machine.wait())
    async with asyncio.timeout(BOOT_SECONDS):
        while not ending.done():  # pressed before the disk's own code runs, it is not seen
            await machine.press_power_button()
            await asyncio.wait({ending}, timeout=1)
    assert ending.result().kind is EndKind.POWERED_OFF


WRITE_ON_AND_ON = bytes.fromhex(
    "31c0 8ed8 be147c"  # ds = 0, si = the packet below
    "b80043 cd13"  # BIOS: extended write to the drive that was booted from
    "6683061c7c40 ebf3"  # 64 sectors further, again
    "1000 4000 0080 0000 4000000000000000"  # 64 sectors from 0000:8000 to sector 64
)


@dataclasses.dataclass
class SmallFileSystem:
    folder: Path

    def resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@pytest.fixture
def small(short_path: Path) -> Iterator[SmallFileSystem]:
    if os.geteuid() != 0:
        pytest.skip("a file system that is full needs a mount")
    folder = short_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "volant-test", str(folder)], check=True)
    yield SmallFileSystem(folder)
    subprocess.run(["umount", str(folder)], check=True)


async def wait_for_state(machine: QemuMachine, state: MachineState) -> None:
    async with asyncio.timeout(BOOT_SECONDS):
        while machine.state is not state:  # noqa: ASYNC110  # as a user polls
            await asyncio.sleep(0.05)


def write_boot_sector(disk: Path, size_bytes: int) -> None:
    disk.write_bytes(WRITE_ON_AND_ON.ljust(510, b"\0") + b"\x55\xaa")
    os.truncate(disk, size_bytes)


async def make_writer(qemu: Qemu, make_spec: MakeSpec, disk: Path, size_bytes: int) -> VmSpec:
    """A machine whose firmware starts a disk that writes to itself without end."""
    write_boot_sector(disk, size_bytes)
    support = await qemu.find_support("amd64", kernel=None, firmware=True)
    return dataclasses.replace(
        make_spec(IDLE),
        machine=support.machine,
        accelerator=support.accelerator,
        kernel=None,
        initrd=None,
        disks=(DiskDrive(disk, "raw", "root"),),
    )


async def test_a_full_disk_of_the_host_pauses_and_is_said(
    qemu: Qemu, make_spec: MakeSpec, small: SmallFileSystem
) -> None:
    disk = small.folder / "disk.img"
    spec = await make_writer(qemu, make_spec, disk, 16 << 20)
    machine = await qemu.start(spec)
    try:
        await wait_for_state(machine, MachineState.PAUSED)
        assert machine.problem == f"paused: the host's disk is full ({small.folder})"
        small.resize("32m")
        await wait_for_state(machine, MachineState.RUNNING)
        assert machine.problem == ""
    finally:
        await machine.kill()


async def test_a_guest_that_writes_on_and_on_is_held_to_its_bound(
    qemu: Qemu, make_spec: MakeSpec, short_path: Path
) -> None:
    disk = short_path / "disk.img"
    spec = await make_writer(qemu, make_spec, disk, 1 << 30)
    spec = dataclasses.replace(spec, disk_bytes_per_second=BOUND)
    machine = await qemu.start(spec)
    begun, before = time.monotonic(), disk.stat().st_blocks * 512
    try:
        async with asyncio.timeout(BOOT_SECONDS):
            while disk.stat().st_blocks * 512 < before + 3 * BOUND:  # noqa: ASYNC110  # a file
                await asyncio.sleep(0.05)
        # Without a bound it takes a tenth of a second. QEMU lets a tenth of the bound through at once.
        assert time.monotonic() - begun > 2
    finally:
        await machine.kill()


async def test_a_kernel_boots_on_q35_too(qemu: Qemu, make_spec: MakeSpec) -> None:
    """The machine of hosts whose QEMU has no microvm."""
    machine = await qemu.start(dataclasses.replace(make_spec(IDLE), machine="q35"))
    end = await asyncio.wait_for(machine.wait(), BOOT_SECONDS)
    assert "No working init found" in end.reason


async def test_a_qemu_that_does_not_answer_is_adopted_and_not_ended(
    qemu: Qemu, make_spec: MakeSpec, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.volantd.hypervisors.qemu.ADOPT_TIMEOUT_SECONDS", 0.1)
    spec = stay(make_spec(IDLE))
    machine = await qemu.start(spec)
    await machine.release()
    (spec.socket_folder / "qmp.sock").rename(short_path / "elsewhere")
    adopted = await qemu.adopt(machine.identity, spec)
    assert adopted is not None
    assert adopted.state is MachineState.RUNNING
    with pytest.raises(ToolFailed, match="no connection to its QEMU"):
        await adopted.pause()
    assert (await adopted.kill()).kind is EndKind.KILLED
