# SPDX-License-Identifier: Apache-2.0
"""volar vms logs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import click

from volant.client.log_lines import follow_lines, read_lines, wait_for_return
from volant.errors import Unreachable
from volant.volar.client import Client, quoted
from volant.volar.names import vm_argument
from volant.volar.printable import make_printable, make_printable_line
from volant.volar.target import make_client


@click.command()
@vm_argument
@click.option("--console", is_flag=True, help="The serial console instead of the processes' output.")
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until the VM ends.")
@click.option("--since", help="Only lines after this time (RFC 3339) or age (10m, 2h).")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only the last lines.")
@click.option("--process", help="Only this process; kestrel is the agent.")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("-o", "--output", "output_format", type=click.Choice(["table", "json"]), default="table")
@click.pass_context
def logs(
    context: click.Context, name: str, console: bool, follow: bool, since: str | None, tail: int | None,
    process: str | None, timestamps: bool, output_format: str,
) -> None:  # fmt: skip
    """Show what a VM's processes wrote, also of stopped and failed VMs.

    \b
    volar vms logs my-nginx -f
    volar vms logs my-nginx --console
    """
    client = make_client(context)
    client.get_vm(name)
    # From here on a daemon that is stopped is waited for, and not started again behind the back of who stopped it.
    client = make_client(context, autostart=False)
    if console:
        show_console(client, name, follow=follow, tail=tail)
        return
    read = follow_lines if follow else read_lines
    for_person = sys.stdout.isatty()
    for line in read(client, name, process=process, since=since, tail=tail):
        if output_format == "json":
            click.echo(json.dumps(line))
            continue
        stamp = f"{line['time']} " if timestamps else ""
        text = f"{stamp}[{line['process']}] {line['line']}"
        click.echo(make_printable_line(text) if for_person else text)


def show_console(client: Client, name: str, *, follow: bool, tail: int | None) -> None:
    """The serial console, byte by byte for programs; while it is followed, also beyond a restart of the daemon."""
    query = {"follow": follow, "tail": tail}
    while True:
        try:
            _copy_console(client, f"/vms/{quoted(name)}/console/log", query)
        except Unreachable:
            if not follow:
                raise
        if not follow or not wait_for_return(client, name):
            return
        query = {"follow": True, "tail": 0}


def _copy_console(client: Client, path: str, query: Mapping[str, object]) -> None:
    with client.open("GET", path, query=query, timeout_seconds=None) as reply:
        if sys.stdout.isatty():
            for raw in reply:
                click.echo(make_printable(raw.decode(errors="replace").rstrip("\r\n")))
            return
        while chunk := reply.read1(1 << 16):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
