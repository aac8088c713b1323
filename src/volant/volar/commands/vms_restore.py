# SPDX-License-Identifier: Apache-2.0
"""volar vms restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volant.volar.client import quoted
from volant.volar.cold_boots import find_cause
from volant.volar.names import SNAPSHOT, VM
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Vm


@click.command()
@click.argument("vm", type=VM)
@click.argument("snapshot", type=SNAPSHOT)
@click.pass_context
def restore(context: click.Context, vm: str, snapshot: str) -> None:
    """Return a VM to one of its snapshots. Its current disk and memory are lost.

    With memory it continues where it was, whether it runs now or not. From a snapshot of its disk alone it boots if it
    runs now, and stays stopped otherwise. Its name, address, ports, labels and restart policy are kept.

    \b
    volar snapshots create db before-upgrade
    volar vms restore db before-upgrade
    """
    client = make_client(context)
    restored: Vm = client.post(f"/vms/{quoted(vm)}/restore", {"snapshot": snapshot}, timeout_seconds=300)
    click.echo(f"{vm} is what it was at {snapshot}, and {restored['status']}")
    if restored["status"] == "starting" and (cause := find_cause(client, vm)):
        click.echo(f"{vm} boots, because its memory cannot be used: {cause}", err=True)
