# SPDX-License-Identifier: Apache-2.0
"""Into a VM: the connection of its agent, or the reason why there is none and what to do about it."""

from __future__ import annotations

import socket

from volant.errors import Unreachable, WrongState
from volant.volantd.vms.monitor import Guest, VmMonitor
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import WITH_PROCESS, VmState

WAYS_BACK = {VmState.PAUSED: "unpause", VmState.SUSPENDED: "resume"}


async def reach_guest(record: VmRecord, monitor: VmMonitor | None, timeout_seconds: float) -> Guest:
    """Raises WrongState or Unreachable."""
    if monitor is None or record.state not in WITH_PROCESS or record.state is VmState.PAUSED:
        verb = WAYS_BACK.get(record.state, "start")
        raise WrongState(
            f"cannot reach into VM {record.name}: it is {record.state.value}",
            resolution=f"{verb} it first: volar vms {verb} {record.name}",
        )
    if record.has_own_system:
        raise Unreachable(
            f"cannot reach into VM {record.name}: it boots its own system, in which no agent answers",
            resolution="reach it over the network",
        )
    guest = await monitor.wait_connected(timeout_seconds)
    if guest is None:
        raise Unreachable(
            f"cannot reach into VM {record.name}: its agent does not answer",
            resolution=f"look at its console: volar vms logs {record.name} --console",
        )
    return guest


async def open_console(record: VmRecord, monitor: VmMonitor | None) -> socket.socket:
    """A stream to and from its serial console. Raises WrongState."""
    if monitor is None or record.state not in WITH_PROCESS:
        raise WrongState(f"cannot attach to the console of VM {record.name}: it is {record.state.value}")
    return await monitor.machine.open_console()
