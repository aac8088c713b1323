# SPDX-License-Identifier: Apache-2.0
"""volar tokens."""

from __future__ import annotations

import click

from volant.volar.client import quoted
from volant.volar.durations import DURATION
from volant.volar.groups import Commands
from volant.volar.names import TOKEN
from volant.volar.output import Format, output_option, show_object, show_rows
from volant.volar.tables import format_age
from volant.volar.target import make_client

TOKEN_ALIASES = {"ls": "list", "rm": "delete", "remove": "delete", "revoke": "delete", "renew": "rotate"}


@click.group(cls=Commands, aliases=TOKEN_ALIASES)
def tokens() -> None:
    """Manage API tokens: they let programs in over TCP, each within its scope."""


@tokens.command()
@click.argument("name")
@click.option(
    "--scope", default="read", show_default=True, metavar="read|vm:NAME|admin",
    help="read: see everything; vm:NAME: see, enter, start and stop one VM; admin: everything.",
)  # fmt: skip
@click.option(
    "--expires", type=DURATION, default="30d", show_default=True, metavar="DURATION|never",
    help="After this time, e.g. 12h or 90d, it is refused.",
)  # fmt: skip
@output_option
@click.pass_context
def create(context: click.Context, name: str, scope: str, expires: int | None, output_format: Format) -> None:
    """Create a token and print it; it cannot be shown again.

    \b
    export VOLANT_TOKEN=$(volar tokens create ci --scope vm:web --expires 90d)
    """
    body = {"name": name, "scope": scope, "lifetime_seconds": expires}
    show_token(make_client(context).post("/tokens", body), output_format)


@tokens.command("list")
@output_option
@click.pass_context
def list_tokens(context: click.Context, output_format: Format) -> None:
    """List tokens: names, scopes and expiry, never their values."""
    columns = {
        "NAME": lambda token: token["name"],
        "SCOPE": lambda token: token["scope"],
        "CREATED": lambda token: format_age(token["created_at"]),
        "EXPIRES": lambda token: token["expires_at"] or "never",
    }
    show_rows(make_client(context).list_tokens(), output_format, kind="token", columns=columns)


@tokens.command()
@click.argument("name", type=TOKEN)
@click.option(
    "--overlap", type=DURATION, default="1h", show_default=True, metavar="DURATION",
    help="How long the old token stays valid; 0s: not at all.",
)  # fmt: skip
@output_option
@click.pass_context
def rotate(context: click.Context, name: str, overlap: int | None, output_format: Format) -> None:
    """Replace a token with a new one of the same name, scope and lifetime, and print it."""
    if overlap is None:
        raise click.BadParameter("give the old token a time to end", param_hint="--overlap")
    made = make_client(context).post(f"/tokens/{quoted(name)}/rotate", {"overlap_seconds": overlap})
    show_token(made, output_format)


@tokens.command()
@click.argument("names", nargs=-1, required=True, type=TOKEN)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Revoke tokens."""
    client = make_client(context)
    for name in names:
        client.delete(f"/tokens/{quoted(name)}")
        click.echo(f"deleted {name}")


def show_token(made: dict[str, str], output_format: Format) -> None:
    """For people the token alone, as a shell's $(…) wants it."""
    if output_format in ("table", "wide"):
        click.echo(made["token"])
    else:
        show_object(made, output_format, list)
