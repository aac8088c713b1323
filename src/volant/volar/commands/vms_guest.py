# SPDX-License-Identifier: Apache-2.0
"""The `volar vms` commands that enter a guest: ssh, exec, cp, port-forward, console."""

from __future__ import annotations

import re
import shlex

import click

from volant.digits import is_whole_number
from volant.errors import Unreachable, UsageError, WrongState
from volant.process import require_tool
from volant.volar.client import Client, quoted
from volant.volar.commands.vms_show import describe_ports, has_own_system
from volant.volar.names import vm_argument
from volant.volar.target import make_client

RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}
REFUSED_IN_EXEC = {
    "-d": "start it in the background: volar vms exec NAME -- sh -c 'COMMAND >/dev/null 2>&1 &'",
    "--detach": "start it in the background: volar vms exec NAME -- sh -c 'COMMAND >/dev/null 2>&1 &'",
    "--privileged": "leave it out: root in a VM has the whole machine",
}


@click.command(context_settings=RAW)
@click.option("-u", "--user", default="root", show_default=True, help="Log in as this user of the image.")
@vm_argument
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
@click.option("-i", "--interactive", is_flag=True, hidden=True)  # docker's; standard input is always joined
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="More environment for it.")
@click.option("-w", "--workdir", metavar="FOLDER", help="Run it in this folder.")
@vm_argument
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def execute(
    context: click.Context, user: str, tty: bool, interactive: bool, env: tuple[str, ...], workdir: str | None,
    name: str, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run one program with its arguments in a VM; its exit code is volar's.

    \b
    volar vms exec my-nginx -- nginx -t
    volar vms exec -it my-nginx sh
    """
    if name.startswith("-"):
        option = name.split("=")[0]
        raise UsageError(
            f"cannot run a program with {option}: there is no such option",
            resolution=REFUSED_IN_EXEC.get(option, "volar vms exec --help"),
        )
    arguments = list(command[1:] if command[0] == "--" else command)
    _run_ssh(context, name, user, [make_command_line(arguments, env, workdir)], terminal=tty)


def make_command_line(arguments: list[str], env: tuple[str, ...], workdir: str | None) -> str:
    """One line for the guest's shell. Without folder and variables a guest that has no shell takes it as well."""
    line = shlex.join(arguments)
    for text in reversed(env):
        variable, is_given, value = text.partition("=")
        if not is_given or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise UsageError(f"cannot use --env {text!r}: not NAME=VALUE")
        line = f"{variable}={shlex.quote(value)} {line}"
    return f"cd {shlex.quote(workdir)} && {line}" if workdir else line


def _run_ssh(
    context: click.Context, name: str, user: str, command: list[str], *, terminal: bool | None
) -> None:
    from volant.volar.ssh import open_session, run_client

    client = make_client(context)
    own_system = find_own_system(client, name, "log in to")
    program = require_tool("ssh", package="openssh-client")
    flags = {None: [], True: ["-tt"], False: ["-T"]}[terminal]
    with open_session(client, name, own_system=own_system) as options:
        status = run_client([program, *options, *flags, f"{user}@{name}", *command], client.token)
    context.exit(status)


def find_own_system(client: Client, name: str, verb: str) -> bool:
    """Whether this VM boots its own system, with an SSH server of its own; WrongState unless it runs."""
    vm = client.get_vm(name)
    status = vm["status"]
    if status == "suspended" and vm.get("suspend_when_idle_seconds", 0):
        return False  # whoever enters it wakes it
    if status not in ("starting", "running", "stopping"):
        way = {"paused": "unpause", "suspended": "resume"}.get(status, "start")
        raise WrongState(f"cannot {verb} VM {name}: it is {status}", resolution=f"volar vms {way} {name}")
    return status != "stopping" and has_own_system(client, vm)


def require_agent(client: Client, name: str, verb: str) -> None:
    """Unreachable, with the ports that lead there, for a VM that boots its own system; WrongState unless it runs."""
    if find_own_system(client, name, verb):
        ways = [f"its published port {port}" for port in describe_ports(client.get_vm(name))]
        raise Unreachable(
            f"cannot {verb} VM {name}: it boots its own system, in which no agent answers",
            resolution="; ".join([*ways, f"volar vms ssh {name}", f"volar vms console {name}"]),
        )


@click.command()
@click.option("-r", "--recursive", is_flag=True, help="Copy folders.")
@click.option("-a", "--archive", is_flag=True, help="Folders too, with modes and times.")
@click.option("-u", "--user", default="root", show_default=True)
@click.argument("sources", nargs=-1, required=True)
@click.argument("target")
@click.pass_context
def cp(
    context: click.Context, recursive: bool, archive: bool, user: str, sources: tuple[str, ...], target: str
) -> None:
    """Copy files to or from a VM; a place in a VM is NAME:PATH.

    \b
    volar vms cp ./index.html my-nginx:/var/www/html/
    volar vms cp my-nginx:/var/log/nginx/access.log .
    """
    from volant.volar.ssh import open_session, run_client

    places = [re.sub(r"^vms?/(?=[^/:]+:)", "", place) for place in (*sources, target)]
    names = {match[1] for place in places if (match := re.match(r"([a-z0-9][a-z0-9_-]*):", place))}
    if len(names) != 1:
        raise UsageError(
            "cannot copy: exactly one VM must be named",
            resolution="volar vms cp FILE NAME:PATH, or NAME:PATH FILE",
        )
    (name,) = names
    client = make_client(context)
    program = require_tool("scp", package="openssh-client")
    own_system = find_own_system(client, name, "copy to or from")
    flags = ["-rp"] if archive else ["-r"] if recursive else []
    places = [f"{user}@{place}" if place.startswith(f"{name}:") else place for place in places]
    with open_session(client, name, own_system=own_system) as options:
        status = run_client([program, *options, *flags, "--", *places], client.token)
    context.exit(status)


@click.command("port-forward")
@click.option("--address", default="127.0.0.1", show_default=True, help="Local address to listen on.")
@vm_argument
@click.argument("ports", metavar="[LOCAL:]GUEST")
@click.pass_context
def port_forward(context: click.Context, address: str, name: str, ports: str) -> None:
    """Make a TCP port of a VM reachable here until interrupted.

    \b
    volar vms port-forward db 5432
    volar vms port-forward web 8080:80
    """
    import socket

    from volant.client.streams import serve_forward

    local, _, guest = ports.rpartition(":")
    if not is_whole_number(guest) or (local and not is_whole_number(local)):
        raise UsageError(f"cannot forward {ports!r}: not a port", resolution="[LOCAL:]GUEST, e.g. 8080:80")
    client = make_client(context)
    require_agent(client, name, f"forward port {guest} of")
    try:
        listener = socket.create_server((address, int(local or guest)))
    except OSError as error:
        raise UsageError(
            f"cannot listen on {address}:{local or guest}: {error.strerror}",
            resolution=f"choose another local port: volar vms port-forward {name} 18080:{guest}",
        ) from error

    def tell(problem: str) -> None:
        click.echo(f"{name}:{guest}: {problem}", err=True)

    with listener:
        click.echo(f"{address}:{listener.getsockname()[1]} → {name}:{guest}, until interrupted", err=True)
        serve_forward(client, f"/vms/{quoted(name)}/ports/{guest}/stream", listener, tell)


@click.command()
@vm_argument
@click.pass_context
def console(context: click.Context, name: str) -> None:
    """Attach this terminal to a VM's serial console; Ctrl-] leaves."""
    from volant.volar.terminal import attach

    attach(make_client(context), f"/vms/{quoted(name)}/console")
