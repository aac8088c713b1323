# SPDX-License-Identifier: Apache-2.0
"""volar run: from a folder, a Dockerfile, a plugin or an image to a VM that runs, in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import click

from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, GuestFailed, NotFound, UsageError, WrongState
from volant.plugin_sources.making import BuildOptions, make_plugin
from volant.volar.boot_watch import wait_for_workload
from volant.volar.client import Client
from volant.volar.commands.vms_create import announce, delete_when_interrupted, tell
from volant.volar.docker_options import docker_options, translate_network
from volant.volar.fetching_watch import telling_fetches
from volant.volar.options import VmOptions, collect, vm_options
from volant.volar.run_follow import End, follow, interrupted_by_hangup, stop, wait_for_end
from volant.volar.target import make_client
from volant.volar.workload_options import WorkloadOptions, workload_options

NAMES_TO_TRY = 100
BOOT_SECONDS = 300.0
BUILD_OPTIONS = (
    click.option(
        "--pull", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
        help="Whether to fetch an image that already has a plugin.",
    ),
    click.option("--platform", metavar="PLATFORM", help="Platform of the image, e.g. linux/amd64."),
    click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="ARG of the Dockerfile."),
)  # fmt: skip


class Attached(NamedTuple):
    """How the workload is joined to this terminal: it is given what is typed, it has one of its own."""

    types: bool
    on_terminal: bool


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="Name of the VM.  [default: the plugin's, with a number if that is taken]")
@click.option(
    "-d", "--detach", is_flag=True, help="Return when its workload is healthy instead of following it."
)
@click.option(
    "--foreground",
    is_flag=True,
    help="For batch engines: all its output on standard output; SIGTERM stops it in order, with its workload's exit"
    " code, or 143 where that had to be killed.",
)
@click.option(
    "-i",
    "--interactive",
    is_flag=True,
    help="Give its workload a standard input, joined to this one without -d.",
)
@click.option("-t", "--tty", is_flag=True, help="Give its workload a terminal.")
@click.option("--rm", "remove", is_flag=True, help="Delete the VM when it ends.")
@vm_options(publish=("-p", "--publish"), volume=("-v", "--volume"))
@workload_options
@collect(BuildOptions, "build", BUILD_OPTIONS)
@click.option(
    "--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for health, with -d."
)
@docker_options
@click.argument("source")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context, name: str | None, detach: bool, foreground: bool, interactive: bool, tty: bool,
    remove: bool, options: VmOptions, workload: WorkloadOptions, build: BuildOptions, timeout: float, source: str,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a folder, Dockerfile, plugin or image as a VM, and show what it writes. Ctrl-C stops it in order.

    \b
    volar run ./my-app                          a folder with a Dockerfile or fledge.toml
    volar run -p 8080:80 nginx:1.27             docker.io/library/nginx:1.27, or a plugin of that name
    volar run -d -v data:/data plugin.tar.gz     in the background, with a volume
    volar run --rm debian:12 -- cat /etc/os-release
    volar run -it --rm debian:12 -- bash        with this terminal; Ctrl-P Ctrl-Q leaves it running
    volar run --foreground --rm job:1.0.0       as a batch engine or a unit of systemd runs it
    """
    check_options(options, detach=detach, foreground=foreground, remove=remove)
    attached = Attached(interactive, tty) if interactive or tty else None
    if attached is not None:
        check_attached(attached, detach=detach, foreground=foreground)
    client = make_client(context)
    options = options.with_networks(filter(None, map(translate_network, options.network)))
    # What is wrong with the command line is said before minutes are spent on a plugin.
    if name is not None:
        check_name(client, name)
    request = options.read()
    workload.complete(request)
    plugin = make_plugin(client, source, build)
    name = name or choose_name(client, plugin)
    options.complete(request, client, name, plugin)
    make_volumes(client, [volume["name"] for volume in request.get("volumes", []) if volume["name"]])
    if words := list(command[1:] if command[:1] == ("--",) else command):
        request["command"] = words
    # As under docker: without a policy that says otherwise, the end of the command is the end of it all.
    if is_once(options):
        request["run_once"] = True
    if interactive:
        request |= {"stdin": True, "stdin_once": not detach}
    if tty:
        request["tty"] = True
    if not detach:
        request["restart"] = "no"
    with delete_when_interrupted(client, name):
        with telling_fetches(client, name, tell):
            vm = client.create_vm(request)
        if detach:
            vm = wait_for_workload(client, name, timeout)
    if detach:
        announce(client, vm)
        return
    # From here on a daemon that is stopped is waited for, and not started again behind the back of who stopped it.
    follower = make_client(context, autostart=False)
    end = run_in_foreground(follower, name, remove=remove, for_engine=foreground, attached=attached)
    if end.problem is not None:
        raise end.problem
    context.exit(end.exit_code)


def is_once(options: VmOptions) -> bool:
    return options.restart in (None, "no")


def check_options(options: VmOptions, *, detach: bool, foreground: bool, remove: bool) -> None:
    """Raises UsageError."""
    if detach and foreground:
        raise UsageError("cannot use --foreground with --detach: give only one")
    if detach and remove:
        raise UsageError(
            "cannot use --rm with --detach", resolution="delete it when it is done: volar rm NAME"
        )
    if not detach and not is_once(options):
        raise UsageError(
            f"cannot use --restart {options.restart} in the foreground: volar would end and the VM would run on",
            resolution="add -d, and follow it with volar logs -f NAME",
        )


def check_attached(attached: Attached, *, detach: bool, foreground: bool) -> None:
    """Raises UsageError."""
    if foreground:
        raise UsageError(
            "cannot use --foreground with -i or -t",
            resolution="leave --foreground out: -i has its exit code, too",
        )
    if attached.types and attached.on_terminal and not detach and not sys.stdin.isatty():
        raise UsageError(
            "cannot give the workload this terminal: standard input is none",
            resolution="leave -t out: -i passes on what is read here",
        )


def make_volumes(client: Client, names: Sequence[str]) -> None:
    """As under docker, a volume that is named for the first time is made."""
    there = {volume["name"] for volume in client.list_volumes()} if names else set()
    for name in names:
        if name not in there:
            client.create_volume(name)
            click.echo(f"made volume {name}", err=True)


def check_name(client: Client, name: str) -> None:
    """Raises UsageError, Conflict."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise UsageError(
            f"cannot name the VM {name!r}", resolution="use at most 63 lowercase letters, digits, '-' and '_'"
        )
    if any(vm["name"] == name for vm in client.list_vms()):
        raise Conflict(f"cannot make VM {name}: there is one of that name", resolution=f"volar start {name}")


def choose_name(client: Client, plugin: str) -> str:
    """The plugin's name, with a number where a VM has it already."""
    stem = plugin.partition(":")[0]
    taken = {vm["name"] for vm in client.list_vms()}
    for name in (stem, *(f"{stem[:60]}-{number}" for number in range(2, NAMES_TO_TRY))):
        if name not in taken:
            return name
    raise Conflict(
        f"cannot name the VM: {stem} to {stem}-{NAMES_TO_TRY - 1} are taken", resolution="give --name NAME"
    )


def run_in_foreground(
    client: Client, name: str, *, remove: bool, for_engine: bool = False, attached: Attached | None = None
) -> End:
    """Follow it to its end. Ctrl-C, SIGTERM and a terminal that goes away stop it in order.

    `for_engine`: all lines go to standard output, and where it was stopped its end is ours too. `attached`: its own
    input and output are these here; who leaves it by the keys leaves it as it is.
    """
    was_left = False
    try:
        with interrupted_by_hangup():
            if attached is None:
                return follow(client, name, for_engine=for_engine)
            end = join(client, name, attached)
            was_left = end is None
            return end or End(0)
    except KeyboardInterrupt:
        click.echo(f"\nstopping {name}; Ctrl-C again switches it off", err=True)
        stop(client, name)
        raise
    finally:
        if was_left:
            click.echo(f"left {name}, which runs on: volar attach {name}, or volar rm -f {name}", err=True)
        elif remove:
            with suppress(NotFound):
                client.delete_vm(name, force=True, volumes=True)
        else:
            click.echo(f"{name} keeps its disk: volar start {name}, or volar rm {name}", err=True)


def join(client: Client, name: str, attached: Attached) -> End | None:
    """Its end; None where somebody has left it. One that ended before anybody could be joined to it has left lines."""
    from volant.volar.attachment import join as join_workload

    try:
        client.wait(name, "running", BOOT_SECONDS)
        code = join_workload(client, name, types=attached.types, on_terminal=attached.on_terminal)
    except (GuestFailed, WrongState):
        return follow(client, name)
    if code is None:
        return None
    end = wait_for_end(client, name)
    return end if end.problem is not None else End(code)
