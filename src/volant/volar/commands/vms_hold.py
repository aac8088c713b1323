# SPDX-License-Identifier: Apache-2.0
"""volar vms pause, unpause, suspend and resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volant.volar.client import quoted
from volant.volar.cold_boots import find_cause
from volant.volar.names import vms_argument
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Vm

# A large memory on a slow disk takes its time.
SUSPEND_SECONDS = 600.0


def _act(context: click.Context, names: tuple[str, ...], verb: str, done: str) -> None:
    client = make_client(context)
    for name in names:
        vm: Vm = client.post(f"/vms/{quoted(name)}/{verb}", timeout_seconds=SUSPEND_SECONDS)
        if vm["status"] != "starting":
            click.echo(f"{done} {name}")
        else:
            click.echo(
                f"{name} boots, because its memory cannot be used: {find_cause(client, name) or 'see its events'}"
            )


@click.command()
@vms_argument
@click.pass_context
def pause(context: click.Context, names: tuple[str, ...]) -> None:
    """Pause VMs' processors. Memory stays in place, and connections wait."""
    _act(context, names, "pause", "paused")


@click.command()
@vms_argument
@click.pass_context
def unpause(context: click.Context, names: tuple[str, ...]) -> None:
    """Continue paused VMs."""
    _act(context, names, "unpause", "unpaused")


@click.command()
@vms_argument
@click.pass_context
def suspend(context: click.Context, names: tuple[str, ...]) -> None:
    """Put VMs' memory on the disk and end their processes: they use no memory and no processor until they are resumed.

    It survives a restart of the host. Open connections are lost.

    \b
    volar vms suspend web
    volar vms resume web
    """
    _act(context, names, "suspend", "suspended")


@click.command()
@vms_argument
@click.pass_context
def resume(context: click.Context, names: tuple[str, ...]) -> None:
    """Resume suspended VMs where they were. One whose memory this host can no longer use boots instead."""
    _act(context, names, "resume", "resumed")
