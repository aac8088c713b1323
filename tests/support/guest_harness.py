# SPDX-License-Identifier: Apache-2.0
"""Boots the guest agent in a real virtual machine without the daemon: a folder becomes an ext4 disk, QEMU runs it, the
console is what tests read. Kernel, boot archive and QEMU's arguments are the product's own."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import mmap
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from qemu.qmp import QMPClient

from volant.contract.agents import find_agent
from volant.contract.guest_config import MODULES_SERIAL, Control, GuestConfig, GuestNetwork, Interface
from volant.cpio import CpioWriter
from volant.progress import SilentMonitor
from volant.volantd.boot.initrd import make_base_archive, write_initrd
from volant.volantd.boot.kernel import Kernel, find_kernel, install_kernel
from volant.volantd.boot.modules import order_modules, want_modules
from volant.volantd.hypervisors.base import DiskDrive, UserNic, VmSpec
from volant.volantd.hypervisors.qemu_arguments import make_qemu_arguments, name_sockets

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "tests"
MAC = "52:54:00:12:34:56"
MACS = (MAC, "52:54:00:12:34:57")
BOOT_TIMEOUT_SECONDS = 90


def make_disk(folder: Path, target: Path, size: str = "96M") -> Path:
    """An ext4 image of `folder`, owned by root whoever runs the test."""
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", str(folder), str(target), size],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return target


def make_overlay(base: Path, target: Path, size: str | None = None) -> Path:
    """A copy-on-write disk over a raw image."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(target)]
    subprocess.run([*command, size] if size else command, check=True, stdin=subprocess.DEVNULL)
    return target


def write_file(root: Path, name: str, content: str | bytes, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


def measure_tsc_khz() -> int:
    """The rate of this host's time stamp counter, read by `rdtsc` over 50 ms."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    began, first = time.monotonic_ns(), read()
    time.sleep(0.05)
    return int((read() - first) * 1_000_000 // (time.monotonic_ns() - began))


@dataclass
class Guest:
    """A virtual machine that runs or has run."""

    process: subprocess.Popen[bytes]
    folder: Path
    console_log: Path
    control_socket: Path
    spec: VmSpec

    @property
    def console(self) -> str:
        return (
            self.console_log.read_text(errors="replace").replace("\r\n", "\n")
            if self.console_log.exists()
            else ""
        )

    def wait_for(self, text: str, timeout_seconds: float = BOOT_TIMEOUT_SECONDS) -> str:
        """The console once it holds `text`; fails where the machine ends or time runs out before."""
        deadline = time.monotonic() + timeout_seconds
        while text not in (console := self.console):
            ended = self.process.poll() is not None
            if (ended and text not in self.console) or time.monotonic() > deadline:
                pytest.fail(
                    f"{text!r} never came on the console; {'ended' if ended else 'still running'}:\n{self.console}"
                )
            time.sleep(0.02)
        return console

    def wait_for_end(self, timeout_seconds: float = BOOT_TIMEOUT_SECONDS) -> str:
        """The whole console once the machine has powered off by itself."""
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the guest did not power off:\n{self.console}")
        if code != 0:
            pytest.fail(f"QEMU ended with {code}:\n{self.console}\n{(self.folder / 'qemu.log').read_text()}")
        return self.console

    def connect_control(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.control_socket))
        return connection

    @contextlib.asynccontextmanager
    async def open_monitor(self) -> AsyncIterator[QMPClient]:
        """QEMU's own monitor, which has one client at a time."""
        client = QMPClient()
        await client.connect(str(name_sockets(self.folder).qmp))
        try:
            yield client
        finally:
            await client.disconnect()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class GuestHarness:
    """What boots of one test run share."""

    folder: Path
    kernel: Kernel
    tsc_khz: int
    agent: Path
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextlib.contextmanager
    def boot(
        self,
        disk: Path | None,
        *,
        settings: Mapping[str, object] | None = None,
        guest_json: bytes | None = None,
        without_guest_json: bool = False,
        initramfs: Path | None = None,
        further_disks: Sequence[DiskDrive] = (),
        read_only: bool = False,
        memory_mb: int = 256,
        network: bool = True,
        vcpu: int = 1,
        netdevs: Sequence[str] = (),
        kernel_arguments: tuple[str, ...] = (),
    ) -> Iterator[Guest]:
        """Start a machine; it is killed at the end where it has not powered off by itself.

        `netdevs` are QEMU's, for networks that the product does not make: the first two get a card each, with the
        addresses MACS, further ones are what those refer to.
        """
        folder = self.folder / f"vm{next(self.numbers)}"
        folder.mkdir()
        modules = order_modules(self.kernel.modules, want_modules("mmio", network=network))
        base = make_base_archive(self.agent, modules, self.folder / "archives")
        initrd = folder / "initrd"
        if guest_json is None and not without_guest_json:
            config = self.make_config([module.archive_name for module in modules], network, settings or {})
            write_initrd(initrd, base, config, initramfs)
        else:
            shutil.copyfile(base, initrd)
            if guest_json is not None:
                _append_guest_json(initrd, guest_json)
        disks = list(further_disks)
        if disk is not None:
            disk_format = "qcow2" if disk.suffix == ".qcow2" else "raw"
            disks.insert(0, DiskDrive(disk, disk_format, "root", read_only))  # type: ignore[arg-type]  # a literal
        if self.kernel.module_disk is not None:
            disks.append(DiskDrive(self.kernel.module_disk, "raw", MODULES_SERIAL, read_only=True))
        nics = [UserNic(mac) for mac in MACS[: len(netdevs) or 1]] if network else []
        spec = VmSpec(
            id="test", name="test", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=vcpu,
            memory_mb=memory_mb, disks=tuple(disks), nics=tuple(nics),
            socket_folder=folder,
            console_log=folder / "console.log", hypervisor_log=folder / "qemu.log", kernel=self.kernel.image,
            initrd=initrd, tsc_khz=self.tsc_khz, nested=True, extra_cmdline=kernel_arguments,
        )  # fmt: skip
        arguments = make_qemu_arguments(spec, "qemu-system-x86_64")
        places = [index + 1 for index, argument in enumerate(arguments) if argument == "-netdev"]
        for place, netdev in zip(places, netdevs, strict=False):
            arguments[place] = netdev
        for netdev in netdevs[len(places) :]:
            arguments += ["-netdev", netdev]
        with (folder / "qemu.log").open("wb") as log:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        guest = Guest(process, folder, spec.console_log, name_sockets(folder).control, spec)
        try:
            yield guest
        finally:
            guest.kill()
            initrd.unlink()

    def run(self, disk: Path | None, **options: object) -> str:
        """Boot and give the whole console after the guest has powered itself off."""
        with self.boot(disk, **options) as guest:  # type: ignore[arg-type]  # boot's own
            return guest.wait_for_end()

    def make_config(self, modules: list[str], network: bool, settings: Mapping[str, object]) -> GuestConfig:
        interface = Interface(mac=MAC, mode="static", addresses=["10.0.2.15/24"], gateway="10.0.2.2")
        defaults: dict[str, object] = {
            "vm_id": "test-0001",
            "vm_name": "test",
            "hostname": "test",
            "network": GuestNetwork(interfaces=[interface], nameservers=["10.0.2.3"])
            if network
            else GuestNetwork(),
            "control": Control(
                host_key=read_host_key(self.folder), authorized_keys=[read_client_key(self.folder)]
            ),
            "modules": modules,
            "unix_time_nanoseconds": time.time_ns(),
        }
        return GuestConfig.model_validate({**defaults, **settings})


def _append_guest_json(initrd: Path, content: bytes) -> None:
    with initrd.open("ab") as stream:
        archive = CpioWriter(stream)
        archive.add(b"volant/guest.json", stat.S_IFREG | 0o600, content)
        archive.finish()


def _make_key(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def read_host_key(folder: Path) -> str:
    return _make_key(folder, "host_key").read_text()


def read_client_key(folder: Path) -> str:
    _make_key(folder, "client_key")
    return (folder / "client_key.pub").read_text().strip()


def make_harness(folder: Path) -> GuestHarness:
    explicit = os.environ.get("VOLANT_KERNEL")
    kernels = CACHE / "kernels"
    kernel = find_kernel("amd64", kernels, Path(explicit) if explicit else None)
    return GuestHarness(
        folder=folder,
        kernel=kernel or install_kernel("amd64", kernels, SilentMonitor()),
        tsc_khz=measure_tsc_khz(),
        agent=find_agent("amd64"),
    )


async def connect(guest: Guest, harness: GuestHarness) -> asyncssh.SSHClientConnection:
    stream = guest.connect_control()
    stream.setblocking(False)
    key = str(harness.folder / "client_key")
    return await asyncssh.connect(
        "guest", sock=stream, username="root", client_keys=[key], known_hosts=None, config=None
    )


async def ask(guest: Guest, harness: GuestHarness, method: str, params: dict[str, object]) -> dict[str, Any]:
    """One call of the control protocol, after the greeting."""
    async with await connect(guest, harness) as connection:
        process = await connection.create_process(subsystem="control", encoding="utf-8")
        greeting = {"versions": [1], "host_version": "test"}
        for number, (name, given) in enumerate([("hello", greeting), (method, params)]):
            request = {"jsonrpc": "2.0", "id": number, "method": name, "params": given}
            process.stdin.write(json.dumps(request) + "\n")
            answer = json.loads(await process.stdout.readline())
            assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def run_in(guest: Guest, harness: GuestHarness, command: str) -> str:
    async with await connect(guest, harness) as connection:
        done = await connection.run(command, check=True)
    return str(done.stdout)
