# SPDX-License-Identifier: Apache-2.0
"""volar secrets."""

from __future__ import annotations

import sys

import click

from volant.errors import UsageError
from volant.volar.client import quoted
from volant.volar.docker_words import LIST_AND_REMOVE
from volant.volar.groups import Commands
from volant.volar.names import SECRET
from volant.volar.output import Format, output_option, show_rows
from volant.volar.tables import format_age
from volant.volar.target import make_client


@click.group(cls=Commands, aliases={**LIST_AND_REMOVE, "create": "set", "add": "set"})
def secrets() -> None:
    """Manage secrets: values that VMs may read over vsock port 9000."""


@secrets.command("set")
@click.argument("name")
@click.option("-f", "--file", "source", type=click.File("rb"), help="Read the value from a file.")
@click.pass_context
def set_secret(context: click.Context, name: str, source: click.File | None) -> None:
    """Set a secret from standard input or a file; never from the command line.

    \b
    volar secrets set api-key < key.txt
    """
    import base64

    stream = source or sys.stdin.buffer
    if source is None and sys.stdin.isatty():
        raise UsageError(
            "cannot set a secret: no value on standard input", resolution=f"volar secrets set {name} < FILE"
        )
    value: bytes = stream.read()  # type: ignore[union-attr]  # click.File opens to a binary stream
    body = {"value_base64": base64.b64encode(value).decode()}
    make_client(context).call("PUT", f"/secrets/{quoted(name)}", body=body)
    click.echo(f"set {name} ({len(value)} bytes)")


@secrets.command("list")
@output_option
@click.pass_context
def list_secrets(context: click.Context, output_format: Format) -> None:
    """List names, sizes and users of secrets; values are never shown."""
    columns = {
        "NAME": lambda secret: secret["name"],
        "SIZE": lambda secret: f"{secret['size_bytes']} B",
        "VMS": lambda secret: ", ".join(secret["vms"]),
        "UPDATED": lambda secret: format_age(secret["updated_at"]),
    }
    show_rows(make_client(context).list_secrets(), output_format, kind="secret", columns=columns)


@secrets.command()
@click.argument("names", nargs=-1, required=True, type=SECRET)
@click.pass_context
def remove(context: click.Context, names: tuple[str, ...]) -> None:
    """Remove secrets that no VM has attached."""
    client = make_client(context)
    for name in names:
        client.delete(f"/secrets/{quoted(name)}")
        click.echo(f"removed {name}")
