# SPDX-License-Identifier: Apache-2.0
"""volar events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from volant.client.event_stream import EventReader
from volant.errors import Unreachable
from volant.volar.client import Client, has_gone_away
from volant.volar.groups import Commands
from volant.volar.names import VM
from volant.volar.output import Format, output_option
from volant.volar.printable import make_printable_json, make_printable_line
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Event

# The daemon is heard every 15 seconds; gone for this long it is waited for no more.
SILENCE_SECONDS, AWAY_SECONDS, AGAIN_SECONDS = 60.0, 60.0, 0.5
Command = TypeVar("Command", bound=Callable[..., Any])


def event_options(command: Command) -> Command:
    decorated: Any = output_option(command)
    decorated = click.option("--vm", "name", type=VM, help="Only this VM.")(decorated)
    watch = click.option("-w", "--watch", is_flag=True, help="Follow new events until interrupted.")
    return watch(decorated)  # type: ignore[no-any-return]  # click's options return what they are given


@click.group(cls=Commands, aliases={"vm": "vms"}, invoke_without_command=True)
@event_options
@click.pass_context
def events(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    """Show what happens to VMs; without a subcommand, everything."""
    if context.invoked_subcommand is None:
        show_events(context, watch, name, output_format)


@events.command("vms")
@event_options
@click.pass_context
def watch_vms(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    """Show events of VMs, oldest first."""
    show_events(context, watch, name, output_format)


def show_events(context: click.Context, watch: bool, name: str | None, output_format: Format) -> None:
    if watch:
        found = follow_events(make_client(context), lambda: make_client(context, autostart=False), name)
    else:
        found = list_events(make_client(context), name)
    for event in found:
        if output_format == "json":
            click.echo(make_printable_json(json.dumps(event)))
        else:
            detail = " ".join(
                f"{key}={value}" for key, value in event["data"].items() if value not in ("", None)
            )
            line = f"{event['time']}  {event['vm']:<20}  {event['kind']:<12}  {detail}".rstrip()
            click.echo(make_printable_line(line))


def list_events(client: Client, vm: str | None) -> Iterator[Event]:
    with client.open("GET", "/events/vms", query={"vm": vm}, timeout_seconds=None) as reply:
        yield from EventReader().read(reply)


def follow_events(client: Client, make_again: Callable[[], Client], vm: str | None) -> Iterator[Event]:
    """Events as they come, also through a restart of the daemon, which is not started for it.

    Unreachable where it stays away. What was missed comes first; an event "gap" says that not all of it is kept.
    """
    reader = EventReader()
    away_since: float | None = None
    while True:
        try:
            query = {"vm": vm, "follow": True, "after": reader.last_id}
            with client.open("GET", "/events/vms", query=query, timeout_seconds=SILENCE_SECONDS) as reply:
                away_since = None
                yield from reader.read(reply)
        except Unreachable as error:
            away_since = away_since or time.monotonic()
            is_over = time.monotonic() - away_since > AWAY_SECONDS
            if reader.last_id is None or is_over or not has_gone_away(error):
                raise
        time.sleep(AGAIN_SECONDS)
        client = make_again()
