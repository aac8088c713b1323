# SPDX-License-Identifier: Apache-2.0
"""volantd shutdown: what the systemd unit calls when the host goes down.

It ends the daemon and takes its place, whether or not one ran: nobody can start another VM meanwhile, and there is one
way of stopping all. Waiting for guests is all it does; nothing is started.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import click

from volant.contract.daemon_process import stop_daemon
from volant.volantd.backup.restoring import put_in_place
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.opened_state import hold_lock, make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.adoption import adopt_all
from volant.volantd.vms.comeback import Comeback, stop_all
from volant.volantd.vms.fleet import Fleet


async def shut_down(
    settings: Settings, hypervisor: Hypervisor, timeout_seconds: float, others: Sequence[Hypervisor] = ()
) -> None:
    await asyncio.to_thread(stop_daemon, settings.socket, settings.state_dir / "volantd.log")
    if not settings.database.is_file():
        click.echo("there are no VMs")
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_lock(settings))
        put_in_place(settings.state_dir)
        fleet = Fleet(make_domain(settings, hypervisor, stack, others))
        await adopt_all(fleet, restores=False)
        stopped = await stop_all(fleet, Comeback(settings.state_dir), timeout_seconds)
        await fleet.release_all()
    names = ", ".join(record.name for record in stopped)
    click.echo(f"stopped: {names}; they start again with the daemon" if names else "no VM was running")
