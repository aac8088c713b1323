# SPDX-License-Identifier: Apache-2.0
"""The `volar vms` commands that enter a guest: ssh, exec, cp, port-forward, console."""

from __future__ import annotations

import re
import shlex
import sys

import click

from volant.errors import UsageError
from volant.process import require_tool
from volant.volar.client import quoted
from volant.volar.complete import complete_vms
from volant.volar.target import make_client

RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command(context_settings=RAW)
@click.option("-u", "--user", default="root", show_default=True, help="Log in as this user of the image.")
@click.argument("name", shell_complete=complete_vms)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def ssh(context: click.Context, user: str, name: str, command: tuple[str, ...]) -> None:
    """Log in to a VM, or run a command in it, with the real ssh. No key needs to be set up.

    \b
    volar vms ssh my-nginx
    volar vms ssh my-nginx 'journalctl -u kestrel'
    """
    _run_ssh(context, name, user, list(command), terminal=None)


@click.command("exec", context_settings=RAW)
@click.option("-u", "--user", default="root", show_default=True, help="Run as this user of the image.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.argument("name", shell_complete=complete_vms)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def execute(context: click.Context, user: str, tty: bool, name: str, command: tuple[str, ...]) -> None:
    """Run one program with its arguments in a VM; its exit code is volar's.

    \b
    volar vms exec my-nginx -- nginx -t
    """
    arguments = list(command[1:] if command[0] == "--" else command)
    _run_ssh(context, name, user, [shlex.join(arguments)], terminal=tty)


def _run_ssh(
    context: click.Context, name: str, user: str, command: list[str], *, terminal: bool | None
) -> None:
    from volant.volar.ssh import open_session, run_client

    client = make_client(context)
    program = require_tool("ssh", package="openssh-client")
    flags = {None: [], True: ["-tt"], False: ["-T"]}[terminal]
    with open_session(client, name) as options:
        status = run_client([program, *options, *flags, f"{user}@{name}", *command], client.token)
    sys.exit(status)


@click.command()
@click.option("-r", "--recursive", is_flag=True, help="Copy folders.")
@click.option("-u", "--user", default="root", show_default=True)
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@click.pass_context
def cp(context: click.Context, recursive: bool, user: str, sources: tuple[str, ...], target: str) -> None:
    """Copy files to or from a VM; a place in a VM is NAME:PATH.

    \b
    volar vms cp ./index.html my-nginx:/var/www/html/
    volar vms cp my-nginx:/var/log/nginx/access.log .
    """
    from volant.volar.ssh import open_session, run_client

    client = make_client(context)
    program = require_tool("scp", package="openssh-client")
    names = {
        match[1] for place in (*sources, target) if (match := re.match(r"([a-z0-9][a-z0-9_-]*):", place))
    }
    if len(names) != 1:
        raise UsageError(
            "cannot copy: exactly one VM must be named",
            resolution="volar vms cp FILE NAME:PATH, or NAME:PATH FILE",
        )
    (name,) = names
    places = [f"{user}@{place}" if place.startswith(f"{name}:") else place for place in (*sources, target)]
    with open_session(client, name) as options:
        status = run_client([program, *options, *(["-r"] if recursive else []), "--", *places], client.token)
    sys.exit(status)


@click.command("port-forward")
@click.option("--address", default="127.0.0.1", show_default=True, help="Local address to listen on.")
@click.argument("name", shell_complete=complete_vms)
@click.argument("ports", metavar="[LOCAL:]GUEST")
@click.pass_context
def port_forward(context: click.Context, address: str, name: str, ports: str) -> None:
    """Make a TCP port of a VM reachable here until interrupted.

    \b
    volar vms port-forward db 5432
    volar vms port-forward web 8080:80
    """
    import socket

    from volant.volar.streams import serve_forward

    local, _, guest = ports.rpartition(":")
    if not guest.isdigit() or (local and not local.isdigit()):
        raise UsageError(f"cannot forward {ports!r}: not a port", resolution="[LOCAL:]GUEST, e.g. 8080:80")
    client = make_client(context)
    client.get(f"/vms/{quoted(name)}")
    try:
        listener = socket.create_server((address, int(local or guest)))
    except OSError as error:
        raise UsageError(
            f"cannot listen on {address}:{local or guest}: {error.strerror}",
            resolution=f"choose another local port: volar vms port-forward {name} 18080:{guest}",
        ) from error
    with listener:
        click.echo(f"{address}:{listener.getsockname()[1]} → {name}:{guest}, until interrupted", err=True)
        serve_forward(client, f"/vms/{quoted(name)}/ports/{guest}/stream", listener)


@click.command()
@click.argument("name", shell_complete=complete_vms)
@click.pass_context
def console(context: click.Context, name: str) -> None:
    """Attach this terminal to a VM's serial console; Ctrl-] leaves."""
    from volant.volar.terminal import attach

    attach(make_client(context), f"/vms/{quoted(name)}/console")


COMMANDS = (ssh, execute, cp, port_forward, console)
