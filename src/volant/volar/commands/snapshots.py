# SPDX-License-Identifier: Apache-2.0
"""volar snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.sizes import show_size
from volant.volar.client import quoted
from volant.volar.groups import Commands
from volant.volar.names import SNAPSHOT, VM
from volant.volar.output import Format, format_age, output_option, show_object, show_rows
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Snapshot


ALIASES = {
    "ls": "list",
    "rm": "delete",
    "remove": "delete",
    "take": "create",
    "get": "show",
    "inspect": "show",
}


@click.group(cls=Commands, aliases=ALIASES)
def snapshots() -> None:
    """Keep what VMs were at one instant, and make VMs of it."""


@snapshots.command()
@click.argument("vm", type=VM)
@click.argument("name", required=False)
@output_option
@click.pass_context
def create(context: click.Context, vm: str, name: str | None, output_format: Format) -> None:
    """Take a snapshot: disk and memory of a VM that runs, the disk alone of one that is stopped.

    The VM stands still meanwhile, for a fraction of a second, and goes on. The memory holds whatever secrets the
    guest had in it.

    \b
    volar snapshots create db before-upgrade
    volar vms create db-2 --from-snapshot before-upgrade
    """
    snapshot: Snapshot = make_client(context).make(
        f"/vms/{quoted(vm)}/snapshots", {"name": name}, timeout_seconds=300
    )
    if output_format != "table":
        show_object(snapshot, output_format, lambda: describe(snapshot))
        return
    what = (
        f"disk and memory, {vm} stood still for {snapshot['pause_ms']:.0f} ms"
        if snapshot["has_memory"]
        else "disk"
    )
    click.echo(f"{snapshot['name']} has been taken of {vm} ({what})")


@snapshots.command("list")
@output_option
@click.pass_context
def list_snapshots(context: click.Context, output_format: Format) -> None:
    """List the snapshots, oldest first."""
    columns = {
        "NAME": lambda snapshot: snapshot["name"],
        "VM": lambda snapshot: snapshot["vm"],
        "OF": lambda snapshot: "disk and memory" if snapshot["has_memory"] else "disk",
        "SIZE": lambda snapshot: show_size(snapshot["size_bytes"]),
        "AGE": lambda snapshot: format_age(snapshot["created_at"]),
    }
    show_rows(make_client(context).list_snapshots(), output_format, kind="snapshot", columns=columns)


@snapshots.command()
@click.argument("name", type=SNAPSHOT)
@output_option
@click.pass_context
def show(context: click.Context, name: str, output_format: Format) -> None:
    """Show one snapshot: of which VM, its size, and how long the VM stood still for it."""
    snapshot: Snapshot = make_client(context).get(f"/snapshots/{quoted(name)}")
    show_object(snapshot, output_format, lambda: describe(snapshot))


def describe(snapshot: Snapshot) -> list[tuple[str, Any]]:
    plugin = snapshot["plugin"]
    stood = f"{snapshot['pause_ms']:.0f} ms" if snapshot["has_memory"] else None
    return [
        ("name", snapshot["name"]),
        ("vm", snapshot["vm"]),
        ("of", "disk and memory" if snapshot["has_memory"] else "disk"),
        ("vm stood still", stood),
        ("size", show_size(snapshot["size_bytes"])),
        ("plugin", f"{plugin['name']}:{plugin['version']}"),
        ("age", format_age(snapshot["created_at"])),
    ]


@snapshots.command()
@click.argument("names", nargs=-1, required=True, type=SNAPSHOT)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete snapshots. VMs that were made of them go on."""
    client = make_client(context)
    for name in names:
        client.delete(f"/snapshots/{quoted(name)}")
        click.echo(f"deleted {name}")
