# SPDX-License-Identifier: Apache-2.0
"""volar events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, TypeVar

import click

from volant.volar.groups import Commands
from volant.volar.names import VM
from volant.volar.output import Format, output_option
from volant.volar.printable import make_printable_json, make_printable_line
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Event

Command = TypeVar("Command", bound=Callable[..., Any])


def event_options(command: Command) -> Command:
    decorated: Any = output_option(command)
    decorated = click.option("--vm", "name", type=VM, help="Only this VM.")(decorated)
    watch = click.option("-w", "--watch", is_flag=True, help="Go on as they come, until interrupted.")
    return watch(decorated)  # type: ignore[no-any-return]  # click's options return what they are given


@click.group(cls=Commands, aliases={"vm": "vms"}, invoke_without_command=True)
@event_options
@click.pass_context
def events(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    """Show what happens to VMs; with no more words all of it."""
    if context.invoked_subcommand is None:
        show_events(context, watch, name, output_format)


@events.command("vms")
@event_options
@click.pass_context
def watch_vms(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    """Show events of VMs, oldest first."""
    show_events(context, watch, name, output_format)


def show_events(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
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
