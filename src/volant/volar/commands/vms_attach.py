# SPDX-License-Identifier: Apache-2.0
"""volar vms attach: back to a workload that was made with an input or a terminal (volar run -it)."""

from __future__ import annotations

import click

from volant.volar.names import vm_argument
from volant.volar.target import make_client


@click.command()
@click.option("--no-stdin", is_flag=True, help="Only look.")
@vm_argument
@click.pass_context
def attach(context: click.Context, no_stdin: bool, name: str) -> None:
    """Join this terminal to what a VM's workload reads and writes, until it ends: its exit code is volar's.

    Ctrl-P Ctrl-Q leaves it running. For VMs that were made with an input or a terminal: volar run -it.
    """
    from volant.volar.attachment import join

    client = make_client(context)
    vm = client.get_vm(name)
    code = join(client, name, types=vm["stdin"] and not no_stdin, on_terminal=vm["tty"])
    if code is None:
        click.echo(f"left {name}, which runs on: volar attach {name} comes back", err=True)
    context.exit(code or 0)
