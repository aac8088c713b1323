# SPDX-License-Identifier: Apache-2.0
"""What every hypervisor driver owes volantd (`volant.volantd.hypervisors.base`): the same checks for all of them.

pytest runs them with a fake or the real program; in the machine with KVM, which has no pytest, this file is a program:
`python3 driver_checks.py KIND BUSYBOX`. So there is nothing here but the standard library and the product.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volant.cpio import CpioWriter
from volant.errors import Conflict, ToolFailed, VolantError
from volant.volantd.hypervisors.base import (
    CauseKind,
    DiskDrive,
    EndKind,
    Hypervisor,
    Machine,
    MachineState,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.hypervisors.console import read_last_lines
from volant.volantd.hypervisors.host_process import read_boot_id

Behaviour = Literal["stay", "answer", "panic", "poweroff", "reboot"]
SECONDS = 120
SCRIPTS = {
    "stay": "exec /busybox sleep 1000000",
    "answer": 'while read -r line; do echo "heard $line"; done',
    "poweroff": "/busybox poweroff -f",
    "reboot": "/busybox reboot -f",
}


@dataclass(frozen=True)
class Driver:
    """`make_spec`: a machine whose guest does this once it is up."""

    hypervisor: Hypervisor
    make_spec: Callable[[Behaviour], VmSpec]

    @asynccontextmanager
    async def started(self, behaviour: Behaviour) -> AsyncIterator[Machine]:
        machine = await self.hypervisor.start(self.make_spec(behaviour))
        try:
            yield machine
        finally:
            await machine.kill()

    async def adopt(self, identity: ProcessIdentity) -> Machine | None:
        return await self.hypervisor.adopt(identity, self.make_spec("stay"))


@contextmanager
def refused(kind: type[VolantError], words: str = "") -> Iterator[None]:
    try:
        yield
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


async def wait_for_end(machine: Machine) -> tuple[EndKind, CauseKind | None, str]:
    end = await asyncio.wait_for(machine.wait(), SECONDS)
    return end.kind, end.cause.kind if end.cause is not None else None, end.reason


async def check_pause_and_kill(driver: Driver) -> None:
    async with driver.started("stay") as machine:
        assert machine.state is MachineState.RUNNING
        assert os.getsid(machine.identity.pid) == machine.identity.pid
        with refused(Conflict, "it is running"):
            await machine.resume()
        await machine.pause()
        assert machine.state is MachineState.PAUSED
        with refused(Conflict, "it is paused"):
            await machine.pause()
        await machine.resume()
        await asyncio.wait_for(machine.wait_resumed(), SECONDS)
        assert machine.state is MachineState.RUNNING
        assert machine.problem == ""
        assert (await machine.kill()).kind is EndKind.KILLED
        assert machine.state is MachineState.ENDED
        # Harmless, and the same answer to all who ask.
        assert (await machine.kill()).kind is EndKind.KILLED


async def check_adoption(driver: Driver) -> None:
    """A machine outlives whoever started it, and is known again with its state; its violent end is noticed."""
    spec = driver.make_spec("stay")
    first = await driver.hypervisor.start(spec)
    identity = first.identity
    try:
        assert identity.boot_id == read_boot_id()
        assert driver.hypervisor.find_process(spec) == identity
        await first.pause()
        await first.release()
        second = await driver.adopt(identity)
        assert second is not None
        assert second.identity == identity
        assert second.state is MachineState.PAUSED
        await second.resume()
    finally:
        os.kill(identity.pid, signal.SIGKILL)
    kind, _, reason = await wait_for_end(second)
    assert kind is EndKind.CRASHED
    assert reason
    assert await driver.adopt(identity) is None
    assert driver.hypervisor.find_process(spec) is None


async def check_stranger_is_not_adopted(driver: Driver) -> None:
    """A number that another process has by now, or one of another boot of this host."""
    async with driver.started("stay") as machine:
        mine = machine.identity
        for wrong in (
            dataclasses.replace(mine, start_ticks=mine.start_ticks + 1),
            dataclasses.replace(mine, boot_id="another"),
        ):
            assert await driver.adopt(wrong) is None
        assert machine.state is MachineState.RUNNING


async def check_panic(driver: Driver) -> None:
    """A crash, in the kernel's own words; those of an earlier start are history."""
    spec = driver.make_spec("panic")
    spec.console_log.write_text("[    1.0] Kernel panic - not syncing: an old one\n")
    machine = await driver.hypervisor.start(spec)
    kind, cause, reason = await wait_for_end(machine)
    assert (kind, cause) == (EndKind.CRASHED, CauseKind.PANIC), reason
    assert reason.startswith("Kernel panic - not syncing")
    assert "old one" not in reason
    assert machine.state is MachineState.ENDED


async def check_orderly_ends(driver: Driver) -> None:
    endings: dict[Behaviour, EndKind] = {"poweroff": EndKind.POWERED_OFF, "reboot": EndKind.REBOOTED}
    for behaviour, kind in endings.items():
        machine = await driver.hypervisor.start(driver.make_spec(behaviour))
        assert await wait_for_end(machine) == (kind, None, "")


async def check_files(driver: Driver) -> None:
    """The console's log is for its user alone and is appended to; nothing of a process is left when it has ended."""
    spec = driver.make_spec("poweroff")
    spec.console_log.write_text("earlier\n")
    spec.console_log.chmod(0o600)
    machine = await driver.hypervisor.start(spec)
    await wait_for_end(machine)
    assert read_last_lines(spec.console_log, 1000)[0] == "earlier"
    assert stat.S_IMODE(spec.console_log.stat().st_mode) == 0o600
    assert [path for path in spec.socket_folder.rglob("*") if path.is_socket()] == []


async def check_console(driver: Driver) -> None:
    """What is typed reaches the guest and what it says comes back: to whoever attaches, again and after an adoption,
    and to the log."""
    spec = driver.make_spec("answer")
    first = await driver.hypervisor.start(spec)
    try:
        for word in (b"one", b"two"):
            await ask_console(first, word)
        await first.release()
        second = await driver.adopt(first.identity)
        assert second is not None
        await ask_console(second, b"three")
        logged = read_last_lines(spec.console_log, 1000)
        assert {"heard one", "heard two", "heard three"} <= set(logged), logged
    finally:
        os.kill(first.identity.pid, signal.SIGKILL)
    await wait_for_end(second)


async def ask_console(machine: Machine, word: bytes) -> None:
    """A guest that still boots may not hear: typed again until it answers."""
    stream = await machine.open_console()
    loop, heard = asyncio.get_running_loop(), b""
    with stream:
        async with asyncio.timeout(SECONDS):
            while b"heard " + word not in heard:
                await loop.sock_sendall(stream, word + b"\n")
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while b"heard " + word not in heard:
                            data = await loop.sock_recv(stream, 4096)
                            assert data, f"the console has closed after {heard!r}"
                            heard += data


async def check_what_is_refused(driver: Driver) -> None:
    """In the program's own words, and without a process that is left."""
    gone = DiskDrive(Path("/no/such/disk"), "raw", "root")
    spec = dataclasses.replace(driver.make_spec("stay"), disks=(gone,))
    try:
        await driver.hypervisor.start(spec)
    except ToolFailed as error:
        assert "/no/such/disk" in " ".join((error.what, *error.details)), (error.what, error.details)
    else:
        raise AssertionError("a disk that is not there was taken")
    assert driver.hypervisor.find_process(spec) is None


Check = Callable[[Driver], Awaitable[None]]
CHECKS: tuple[Check, ...] = (
    check_pause_and_kill,
    check_adoption,
    check_stranger_is_not_adopted,
    check_panic,
    check_orderly_ends,
    check_files,
    check_console,
    check_what_is_refused,
)


def write_initrd(path: Path, behaviour: Behaviour, busybox: Path) -> None:
    """A guest of one program. One that is none at all makes the kernel panic."""
    with path.open("wb") as stream:
        archive = CpioWriter(stream)
        archive.add_directory(b"dev")
        archive.add(b"dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        archive.add(b"busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
        script = f"#!/busybox sh\n{SCRIPTS[behaviour]}\n" if behaviour in SCRIPTS else "x" * 4096
        archive.add(b"init", stat.S_IFREG | 0o755, script.encode())
        archive.finish()


async def make_driver(hypervisor: Hypervisor, kernel: Path, folder: Path, busybox: Path) -> Driver:
    """Of a real program, with the kernel of this host's guests."""
    support = await hypervisor.find_support("amd64", kernel=kernel)

    def make_spec(behaviour: Behaviour) -> VmSpec:
        write_initrd(folder / "initrd", behaviour, busybox)
        return VmSpec(
            id="1f", name="checked", architecture="amd64", machine=support.machine, accelerator=support.accelerator,
            tsc_khz=support.tsc_khz, vcpu=1, memory_mb=192, disks=(), nics=(), socket_folder=folder,
            console_log=folder / "console.log", hypervisor_log=folder / "hypervisor.log", kernel=kernel,
            initrd=folder / "initrd",
        )  # fmt: skip

    return Driver(hypervisor, make_spec)


async def run_all(kind: str, busybox: Path, kernels: Path) -> None:
    from volant.volantd.boot.kernel import require_kernel
    from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor
    from volant.volantd.hypervisors.qemu import Qemu

    kernel = require_kernel("amd64", kernels, None)
    with tempfile.TemporaryDirectory(prefix="checks-", dir="/tmp") as name:
        hypervisor = Qemu(Path(name)) if kind == "qemu" else CloudHypervisor()
        for check in CHECKS:
            folder = Path(name) / check.__name__.removeprefix("check_")[:12]
            folder.mkdir(mode=0o700)
            driver = await make_driver(hypervisor, kernel.image, folder, busybox)
            try:
                await check(driver)
            except (AssertionError, OSError):
                # The emulated processor loses a guest now and then, to a reset that nobody asked for.
                await check(driver)
            print(check.__name__, flush=True)


if __name__ == "__main__":
    asyncio.run(run_all(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
