# SPDX-License-Identifier: Apache-2.0
"""volar run: from a folder, a Dockerfile, a plugin or an image to a VM that runs, in one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import click

from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, NotFound, UsageError
from volant.plugin_sources.making import BuildOptions, make_plugin
from volant.volar.boot_watch import wait_for_workload
from volant.volar.client import Client
from volant.volar.commands.vms_create import announce, delete_when_interrupted
from volant.volar.docker_options import docker_options, translate_network
from volant.volar.options import VmOptions, collect, vm_options
from volant.volar.run_follow import End, follow, interrupted_by_hangup, stop
from volant.volar.target import make_client
from volant.volar.workload_options import WorkloadOptions, workload_options

NAMES_TO_TRY = 100
BUILD_OPTIONS = (
    click.option(
        "--pull", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
        help="Whether to fetch an image that already has a plugin.",
    ),
    click.option("--platform", metavar="PLATFORM", help="Platform of the image, e.g. linux/amd64."),
    click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="ARG of the Dockerfile."),
)  # fmt: skip


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
    context: click.Context, name: str | None, detach: bool, foreground: bool, remove: bool,
    options: VmOptions, workload: WorkloadOptions, build: BuildOptions, timeout: float, source: str,
    command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a folder, Dockerfile, plugin or image as a VM, and show what it writes. Ctrl-C stops it in order.

    \b
    volar run ./my-app                          a folder with a Dockerfile or fledge.toml
    volar run -p 8080:80 nginx:1.27             docker.io/library/nginx:1.27, or a plugin of that name
    volar run -d -v data:/data plugin.tar.gz     in the background, with a volume
    volar run --rm debian:12 -- cat /etc/os-release
    volar run --foreground --rm job:1.0.0       as a batch engine or a unit of systemd runs it
    """
    if detach and foreground:
        raise UsageError("cannot use --foreground with --detach: give only one")
    if detach and remove:
        raise UsageError(
            "cannot use --rm with --detach", resolution="delete it when it is done: volar rm NAME"
        )
    is_once = options.restart in (None, "no")
    if not detach and not is_once:
        raise UsageError(
            f"cannot use --restart {options.restart} in the foreground: volar would end and the VM would run on",
            resolution="add -d, and follow it with volar logs -f NAME",
        )
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
    if is_once:
        request["run_once"] = True
    if not detach:
        request["restart"] = "no"
    with delete_when_interrupted(client, name):
        vm = client.create_vm(request)
        if detach:
            vm = wait_for_workload(client, name, timeout)
    if detach:
        announce(client, vm)
        return
    # From here on a daemon that is stopped is waited for, and not started again behind the back of who stopped it.
    follower = make_client(context, autostart=False)
    end = run_in_foreground(follower, name, remove=remove, for_engine=foreground)
    if end.problem is not None:
        raise end.problem
    context.exit(end.exit_code)


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


def run_in_foreground(client: Client, name: str, *, remove: bool, for_engine: bool = False) -> End:
    """Follow it to its end. Ctrl-C, SIGTERM and a terminal that goes away stop it in order.

    `for_engine`: all lines go to standard output, and where it was stopped its end is ours too.
    """
    try:
        with interrupted_by_hangup():
            return follow(client, name, for_engine=for_engine)
    except KeyboardInterrupt:
        click.echo(f"\nstopping {name}; Ctrl-C again switches it off", err=True)
        stop(client, name)
        raise
    finally:
        if remove:
            with suppress(NotFound):
                client.delete_vm(name, force=True, volumes=True)
        else:
            click.echo(f"{name} keeps its disk: volar start {name}, or volar rm {name}", err=True)
