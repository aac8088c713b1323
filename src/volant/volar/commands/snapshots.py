# SPDX-License-Identifier: Apache-2.0
"""volar snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.sizes import show_size
from volant.volar.client import quoted
from volant.volar.groups import Commands
from volant.volar.names import SNAPSHOT, VM
from volant.volar.output import Format, output_option, show_object, show_rows
from volant.volar.output_path import OUTPUT_PATH
from volant.volar.tables import format_age
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
    """Manage snapshots: a VM's disk and memory at one instant."""


@snapshots.command()
@click.argument("vm", type=VM)
@click.argument("name", required=False)
@output_option
@click.pass_context
def create(context: click.Context, vm: str, name: str | None, output_format: Format) -> None:
    """Take a snapshot: disk and memory of a running VM, the disk alone of a stopped one.

    The VM is paused for a fraction of a second. The memory holds whatever secrets the
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
    """Show one snapshot: of which VM, its size, and how long the VM was paused for it."""
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
@click.argument("name", type=SNAPSHOT)
@click.argument("file", type=OUTPUT_PATH)
@click.option("--with-memory", is_flag=True, help="Include the guest's memory, with its secrets.")
@click.pass_context
def export(context: click.Context, name: str, file: str, with_memory: bool) -> None:
    """Write a snapshot to FILE (- for standard output), for another host that has the same plugin.

    It holds what differs from the plugin's disk, and what the VM was; without its memory VMs of it boot.

    \b
    volar snapshots export before-upgrade - | zstd > before-upgrade.tar.zst
    zstd -dc before-upgrade.tar.zst | volar snapshots import -
    """
    from volant.volar.archives import write_reply

    client = make_client(context)
    with client.open(
        "GET", f"/snapshots/{quoted(name)}/archive", query={"memory": with_memory}, timeout_seconds=None
    ) as reply:
        write_reply(reply, file)
    if file != "-":
        click.echo(f"{name} has been written to {file}" + (", with its memory" if with_memory else ""))


@snapshots.command("import")
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--name", help="Under another name than the archive's.")
@click.pass_context
def import_snapshot(context: click.Context, file: str, name: str | None) -> None:
    """Import a snapshot from FILE (- for standard input) that `volar snapshots export` wrote.

    The archive is not trusted: digests are checked, and it affects only VMs that are made from it.
    """
    from volant.volar.archives import open_upload

    with open_upload(file) as upload:
        snapshot: Snapshot = make_client(context).call(
            "POST", "/snapshots/import", query={"name": name}, upload=upload, timeout_seconds=None
        )
    click.echo(
        f"{snapshot['name']} has been taken in ({'disk and memory' if snapshot['has_memory'] else 'disk'})"
    )


@snapshots.command()
@click.argument("names", nargs=-1, required=True, type=SNAPSHOT)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete snapshots. VMs created from them are kept."""
    client = make_client(context)
    for name in names:
        client.delete(f"/snapshots/{quoted(name)}")
        click.echo(f"deleted {name}")
