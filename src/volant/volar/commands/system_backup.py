# SPDX-License-Identifier: Apache-2.0
"""volar system backup and restore."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from volant.errors import NotFound, Unreachable, UsageError, VolantError
from volant.sizes import show_size
from volant.volar.client import Client
from volant.volar.target import make_client
from volant.whole_file import WholeFile

if TYPE_CHECKING:
    from volant.contract.api_types import RestoreReply

CHUNK_BYTES = 1 << 20
# More than the archive's last member and what fills it up.
TAIL_BYTES = 1 << 16
ANEW_SECONDS = 60.0


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--without-plugins", is_flag=True, help="Leave the plugins' disks out; they are to be installed again."
)
@click.option(
    "--with-memory", is_flag=True, help="Keep the memory of snapshots too; it holds their guests' secrets."
)
@click.pass_context
def backup(context: click.Context, file: Path, without_plugins: bool, with_memory: bool) -> None:
    """Write all of the daemon's state into FILE ("-": standard output) while VMs run.

    Each VM's disk is that of one instant, in which its guest was held still. The archive holds disks, keys,
    environments and secrets with what opens them: keep it as you would keep the host.

    \b
    volar system backup monday.tar
    volar system backup - | zstd | age -r KEY > monday.tar.zst.age
    """
    query = {"plugins": "false" if without_plugins else "true", "memory": with_memory}
    with make_client(context).open("GET", "/system/backup", query=query, timeout_seconds=None) as reply:
        if str(file) == "-":
            if sys.stdout.isatty():
                raise UsageError(
                    "cannot write a backup to a terminal", resolution="name a file, or use a pipe"
                )
            notes, size = _write(_read_chunks(reply), sys.stdout.fileno())
        else:
            with WholeFile(file, mode=0o600) as target:
                notes, size = _write(_read_chunks(reply), target.descriptor)
                target.publish()
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"backed up: {show_size(size)} in {'standard output' if str(file) == '-' else file}", err=True)


def _read_chunks(reply: IO[bytes]) -> Iterator[bytes]:
    while chunk := reply.read(CHUNK_BYTES):
        yield chunk


def _write(chunks: Iterator[bytes], descriptor: int) -> tuple[list[str], int]:
    """Returns the notes for people and the size in bytes. Raises what the daemon says where it did not finish."""
    tail, size = b"", 0
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        tail, size = (tail + chunk)[-TAIL_BYTES:], size + len(chunk)
    begin = tail.rfind(b"result.json\0")
    if begin < 0:
        raise VolantError("cannot take the backup: it was cut short", resolution="see the daemon's log")
    length = int(tail[begin + 124 : begin + 135], 8)  # the size's field of a tar header
    result = json.loads(tail[begin + 512 : begin + 512 + length])
    if result["error"]:
        raise VolantError(f"cannot take the backup: {result['error']}")
    return result["notes"], size


@click.command()
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--replace", is_flag=True, help="Also where there are VMs; what is there is kept in lost+found."
)
@click.pass_context
def restore(context: click.Context, file: Path, replace: bool) -> None:
    """Put a backup in the place of the daemon's state: all of it, or nothing where it is not whole.

    VMs are stopped afterwards. Where the daemon has VMs, plugins, secrets or snapshots, --replace is needed, and VMs
    that run are to be stopped first.

    \b
    volar system restore monday.tar
    zstdcat monday.tar.zst | volar system restore -
    """
    client = make_client(context)
    before = client.get_system_info()["instance"]
    with _open(file) as stream:
        reply: RestoreReply = client.call(
            "POST",
            "/system/restore",
            query={"replace": replace},
            upload=_read_chunks(stream),
            timeout_seconds=None,
        )
    _wait_until_anew(make_client(context, autostart=False), before)
    for note in reply["notes"]:
        click.echo(f"note: {note}", err=True)
    click.echo(
        f"restored the backup of {reply['taken_at']}: {reply['vms']} VMs, {reply['plugins']} plugins,"
        f" {reply['secrets']} secrets"
    )


@contextmanager
def _open(file: Path) -> Iterator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    with stream:
        yield stream


def _wait_until_anew(client: Client, before: str) -> None:
    """Until the daemon answers with what was restored; `before` is what it was."""
    deadline = time.monotonic() + ANEW_SECONDS
    while time.monotonic() < deadline:
        with suppress(Unreachable, OSError):
            if client.get_system_info()["instance"] != before:
                return
        time.sleep(0.1)
    raise Unreachable(
        "cannot tell whether the backup was restored: volantd does not answer again",
        resolution="see 'volar daemon status' and the daemon's log",
    )
