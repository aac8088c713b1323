# SPDX-License-Identifier: Apache-2.0
"""volar system backup and restore."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from volant.errors import Unreachable
from volant.volar.archives import open_upload, save_backup
from volant.volar.client import Client
from volant.volar.output_path import OUTPUT_PATH
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import RestoreReply

ANEW_SECONDS = 60.0


@click.command()
@click.argument("file", type=OUTPUT_PATH)
@click.option(
    "--without-plugins",
    is_flag=True,
    help="Leave the plugins' disks out; install them again after a restore.",
)
@click.option(
    "--with-memory", is_flag=True, help="Keep the memory of snapshots too; it holds their guests' secrets."
)
@click.pass_context
def backup(context: click.Context, file: str, without_plugins: bool, with_memory: bool) -> None:
    """Write all of the daemon's state into FILE ("-": standard output) while VMs run.

    Each VM's disk is that of one instant, in which its guest was held still. The archive holds disks, keys,
    environments and secrets with what opens them: keep it as you would keep the host.

    \b
    volar system backup monday.tar
    volar system backup - | zstd | age -r KEY > monday.tar.zst.age
    """
    query = {"plugins": "false" if without_plugins else "true", "memory": with_memory}
    with make_client(context).open("GET", "/system/backup", query=query, timeout_seconds=None) as reply:
        save_backup(reply, file)


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--replace", is_flag=True, help="Also if there are VMs; the old state is kept in lost+found.")
@click.pass_context
def restore(context: click.Context, file: str, replace: bool) -> None:
    """Restore a backup in place of the daemon's state: all of it, or nothing if it is damaged.

    VMs are stopped afterwards. If the daemon has VMs, plugins, secrets or snapshots, --replace is needed, and no VM
    may run.

    \b
    volar system restore monday.tar
    zstdcat monday.tar.zst | volar system restore -
    """
    client = make_client(context)
    before = client.get_system_info()["instance"]
    with open_upload(file) as upload:
        reply: RestoreReply = client.call(
            "POST",
            "/system/restore",
            query={"replace": replace},
            upload=upload,
            timeout_seconds=None,
        )
    _wait_until_anew(make_client(context, autostart=False), before)
    for note in reply["notes"]:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"restored the backup of {reply['taken_at']}: {reply['vms']} VMs, {reply['plugins']} plugins,"
        f" {reply['secrets']} secrets"
    )


def _wait_until_anew(client: Client, before: str) -> None:
    """Until the daemon answers with what was restored; `before` is what it was."""
    deadline = time.monotonic() + ANEW_SECONDS
    while time.monotonic() < deadline:
        with suppress(Unreachable, OSError):
            if client.get_system_info()["instance"] != before:
                return
        time.sleep(0.1)
    raise Unreachable(
        "cannot find out whether the backup was restored: volantd does not answer",
        resolution="see 'volar daemon status' and the daemon's log",
    )
