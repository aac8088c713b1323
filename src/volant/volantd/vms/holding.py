# SPDX-License-Identifier: Apache-2.0
"""That a VM's guest is held still for a snapshot, as a file in the VM's folder: written before, gone when it goes on.

A daemon that is killed in between leaves a guest that stands still; the next one knows by the file to let it go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from volant.errors import Unreachable, VolantError
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import VmState

if TYPE_CHECKING:
    from volant.volantd.vms.monitor import Guest
    from volant.volantd.vms.running_vm import RunningVm

logger = logging.getLogger(__name__)

NAME = "held"
LET_GO_SECONDS = 10.0


def mark_held(folder: Path) -> None:
    (folder / NAME).touch(mode=0o600)


def is_held(folder: Path) -> bool:
    return (folder / NAME).exists()


def unmark_held(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)


async def wait_gone_on(vm: RunningVm) -> None:
    """Until a guest that was held before goes on: that would undo what whoever holds it now has done."""
    if vm.going_on is not None and (await asyncio.wait({vm.going_on}, timeout=LET_GO_SECONDS))[1]:
        raise Unreachable(f"cannot hold VM {vm.record.name}: its guest has not continued after the last time")


@asynccontextmanager
async def held(vm: RunningVm, guest: Guest, *, disks: bool) -> AsyncIterator[None]:
    """The guest's processes stand still and what they wrote is on its disks: with `disks` as file systems that are
    whole by themselves, otherwise as after a power cut."""
    await wait_gone_on(vm)
    mark_held(vm.files.folder)
    try:
        await guest.control.freeze(disks=disks)
        yield
    finally:
        await asyncio.shield(vm.let_go(LET_GO_SECONDS))


async def hold(vm: RunningVm, record: VmRecord, seconds: float, stack: AsyncExitStack) -> bool:
    """Whether the guest stands still, its file systems whole, until `stack` is closed."""
    if record.state is not VmState.RUNNING or record.has_own_system:
        return False
    try:
        guest = await vm.connect(seconds)
        if "snapshot" not in guest.control.hello.features:
            return False
        await stack.enter_async_context(held(vm, guest, disks=True))
    except VolantError as error:
        logger.warning("VM %s cannot be held still: %s", record.name, error.what)
        return False
    return True
