# SPDX-License-Identifier: Apache-2.0
"""volar volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.sizes import show_size
from volant.volar.client import quoted
from volant.volar.groups import Commands
from volant.volar.names import VOLUME
from volant.volar.output import Format, output_option, show_object, show_rows
from volant.volar.output_path import OUTPUT_PATH
from volant.volar.tables import format_age
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Volume

ALIASES = {
    "ls": "list",
    "rm": "delete",
    "remove": "delete",
    "get": "show",
    "inspect": "show",
    "grow": "resize",
}


@click.group(cls=Commands, aliases=ALIASES)
def volumes() -> None:
    """Manage volumes: disks that outlive the VMs that mount them."""


@volumes.command()
@click.argument("name")
@click.option("--size", default="10G", show_default=True, help="It takes only the space that is written to.")
@output_option
@click.pass_context
def create(context: click.Context, name: str, size: str, output_format: Format) -> None:
    """Create a volume: an empty ext4 file system.

    The first VM that mounts it gives it what its image has in that folder, with the folder's owner.

    \b
    volar volumes create db-data --size 20G
    volar vms create db --plugin postgres --volume db-data:/var/lib/postgresql/data
    volar vms create report --plugin report --volume db-data:/data:ro
    """
    volume = make_client(context).create_volume(name, size)
    if output_format != "table":
        show_object(volume, output_format, lambda: describe(volume))
        return
    click.echo(f"{volume['name']} has been created ({show_size(volume['size_bytes'])})")


@volumes.command("list")
@output_option
@click.pass_context
def list_volumes(context: click.Context, output_format: Format) -> None:
    """List the volumes."""
    columns = {
        "NAME": lambda volume: volume["name"],
        "SIZE": lambda volume: show_size(volume["size_bytes"]),
        "USED": lambda volume: show_size(volume["used_bytes"]),
        "VMS": lambda volume: ", ".join(volume["vms"]),
        "AGE": lambda volume: format_age(volume["created_at"]),
    }
    show_rows(make_client(context).list_volumes(), output_format, kind="volume", columns=columns)


@volumes.command()
@click.argument("name", type=VOLUME)
@output_option
@click.pass_context
def show(context: click.Context, name: str, output_format: Format) -> None:
    """Show one volume: its size, the space that it takes on the host, and its VMs."""
    volume: Volume = make_client(context).get(f"/volumes/{quoted(name)}")
    show_object(volume, output_format, lambda: describe(volume))


def describe(volume: Volume) -> list[tuple[str, Any]]:
    return [
        ("name", volume["name"]),
        ("size", show_size(volume["size_bytes"])),
        ("used", show_size(volume["used_bytes"])),
        ("vms", ", ".join(volume["vms"])),
        ("age", format_age(volume["created_at"])),
    ]


@volumes.command()
@click.argument("name", type=VOLUME)
@click.argument("size")
@output_option
@click.pass_context
def resize(context: click.Context, name: str, size: str, output_format: Format) -> None:
    """Grow a volume and its file system, also while its VM is running.

    \b
    volar volumes resize db-data 50G
    """
    volume: Volume = make_client(context).post(
        f"/volumes/{quoted(name)}/resize", {"size": size}, timeout_seconds=120
    )
    if output_format != "table":
        show_object(volume, output_format, lambda: describe(volume))
        return
    click.echo(f"{volume['name']} has {show_size(volume['size_bytes'])} now")


@volumes.command()
@click.argument("name", type=VOLUME)
@click.argument("file", type=OUTPUT_PATH)
@click.pass_context
def backup(context: click.Context, name: str, file: str) -> None:
    """Write a volume, as of this instant, into FILE ("-": standard output), while its VM runs.

    The guest is paused for a moment and continues while the copy is made. The archive is a tar with the disk as a
    QCOW2.

    \b
    volar volumes backup db-data - | zstd > db-data.tar.zst
    """
    from volant.volar.archives import save_backup

    path = f"/volumes/{quoted(name)}/archive"
    with make_client(context).open("GET", path, timeout_seconds=None) as reply:
        save_backup(reply, file)


@volumes.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.argument("name", required=False)
@click.pass_context
def restore(context: click.Context, file: str, name: str | None) -> None:
    """Create a volume from a backup in FILE ("-": standard input), under its own name or as NAME.

    \b
    volar volumes restore db-data.tar
    zstdcat db-data.tar.zst | volar volumes restore - db-data-monday
    """
    from volant.volar.archives import open_upload

    with open_upload(file) as upload:
        volume: Volume = make_client(context).call(
            "POST", "/volumes/restore", query={"name": name}, upload=upload, timeout_seconds=None
        )
    click.echo(f"{volume['name']} has been restored ({show_size(volume['size_bytes'])})")


@volumes.command()
@click.argument("names", nargs=-1, required=True, type=VOLUME)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete volumes and their contents. A volume that a VM uses, running or not, is refused."""
    client = make_client(context)
    for name in names:
        client.delete(f"/volumes/{quoted(name)}")
        click.echo(f"deleted {name}")
