# SPDX-License-Identifier: Apache-2.0
"""volar context: several daemons by name."""

from __future__ import annotations

import re
from typing import IO

import click

from volant.client.connection import make_connector
from volant.contract.paths import find_contexts_file
from volant.errors import Conflict, NotFound, UsageError
from volant.volar.contexts import (
    OWN,
    Contexts,
    Daemon,
    change_contexts,
    read_contexts,
    write_contexts,
)
from volant.volar.docker_words import LIST_AND_REMOVE
from volant.volar.groups import Commands
from volant.volar.output import Format, output_option, show_rows

ALIASES = {**LIST_AND_REMOVE, "create": "add", "set": "add", "switch": "use", "use-context": "use"}
ANSWERS = {
    "export": "the file is one: volar context list names it",
    "update": "volar context add --force NAME ADDRESS",
}


@click.group(cls=Commands, aliases=ALIASES, answers=ANSWERS)
def context() -> None:
    """Manage contexts: addresses of several daemons, and which of them is used.

    `default` is this user's own daemon. For a single command: volar --context NAME, or VOLANT_CONTEXT.
    """


@context.command()
@click.argument("name")
@click.argument("address", metavar="SOCKET|http://HOST:PORT")
@click.option("--token-file", type=click.File(), help="File with the daemon's token; - is standard input.")
@click.option("--use", is_flag=True, help="Choose it for the commands that follow.")
@click.option("-f", "--force", is_flag=True, help="Replace one of that name.")
def add(name: str, address: str, token_file: IO[str] | None, use: bool, force: bool) -> None:
    """Save a daemon's address and token under a name.

    \b
    ssh -fNL 7777:127.0.0.1:7777 server
    ssh server cat /var/lib/volant/token | volar context add server http://127.0.0.1:7777 --token-file -
    """
    if name == OWN or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(
            f"cannot add context {name!r}: a name has letters, digits, '.', '-' and '_', and 'default' is taken"
        )
    make_connector(address)
    token = token_file.read().strip() if token_file else None
    path = find_contexts_file()
    with change_contexts(path) as contexts:
        if name in contexts.daemons and not force:
            raise Conflict(f"cannot add context {name}: the name is taken", resolution="--force replaces it")
        contexts.daemons[name] = Daemon(address.rstrip("/"), token)
        write_contexts(path, Contexts(name if use else contexts.current, contexts.daemons))
    click.echo(f"added {name}" + ("" if use else f"; choose it with volar context use {name}"))


@context.command()
@click.argument("name")
def use(name: str) -> None:
    """Choose the daemon that commands talk to from now on; `default` is this user's own."""
    path = find_contexts_file()
    with change_contexts(path) as contexts:
        contexts.find(name)
        write_contexts(path, contexts._replace(current=name))
    click.echo(f"volar speaks to {name} from now on")


@context.command("list")
@output_option
def list_contexts(output_format: Format) -> None:
    """List the daemons; tokens are not shown."""
    contexts = read_contexts(find_contexts_file())
    daemons = {OWN: Daemon("this user's own"), **contexts.daemons}
    rows = [
        {"name": name, "address": daemon.address, "token": daemon.token is not None}
        for name, daemon in daemons.items()
    ]
    columns = {
        "CURRENT": lambda row: "*" if row["name"] == contexts.current else "",
        "NAME": lambda row: row["name"],
        "ADDRESS": lambda row: row["address"],
        "TOKEN": lambda row: row["token"],
    }
    show_rows(rows, output_format, kind="context", columns=columns)


@context.command()
def show() -> None:
    """Print the name of the daemon that commands talk to."""
    click.echo(read_contexts(find_contexts_file()).current)


@context.command()
@click.argument("names", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove daemons from the list."""
    path = find_contexts_file()
    with change_contexts(path) as contexts:
        for name in names:
            if contexts.daemons.pop(name, None) is None:
                raise NotFound(f"cannot find context {name}")
        current = contexts.current if contexts.current in contexts.daemons else OWN
        write_contexts(path, Contexts(current, contexts.daemons))
    click.echo(f"removed {', '.join(names)}")
