# SPDX-License-Identifier: Apache-2.0
"""volar events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import TYPE_CHECKING

import click

from volant.volar.groups import Commands
from volant.volar.names import VM
from volant.volar.output import Format, output_option
from volant.volar.printable import make_printable_json, make_printable_line
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Event


@click.group(cls=Commands, aliases={"vm": "vms"})
def events() -> None:
    """Follow what happens to VMs."""


@events.command("vms")
@click.option("--watch", is_flag=True, help="Go on until interrupted; without it, what happened so far.")
@click.option("--vm", "name", type=VM, help="Only this VM.")
@output_option
@click.pass_context
def watch_vms(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    """Show events of VMs, oldest first."""
    query = {"vm": name, "follow": watch}
    with make_client(context).open("GET", "/events/vms", query=query, timeout_seconds=None) as reply:
        for event in read_events(reply):
            if output_format == "json":
                click.echo(make_printable_json(json.dumps(event)))
            else:
                detail = " ".join(
                    f"{key}={value}" for key, value in event["data"].items() if value not in ("", None)
                )
                line = f"{event['time']}  {event['vm']:<20}  {event['kind']:<12}  {detail}".rstrip()
                click.echo(make_printable_line(line))


def read_events(reply: HTTPResponse) -> Iterator[Event]:
    """The data of each server-sent event (HTML standard, section 9.2)."""
    data: list[str] = []
    for raw in reply:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].lstrip())
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []
