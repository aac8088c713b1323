# SPDX-License-Identifier: Apache-2.0
"""volar run: from a folder, a Dockerfile, a plugin or an image to a VM that runs, in one line."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from volant.errors import Conflict, NotFound, UsageError
from volant.volar.boot_watch import wait_for_workload
from volant.volar.client import Client, quoted
from volant.volar.commands.vms_create import announce, delete_when_interrupted
from volant.volar.docker_options import docker_options, translate_network
from volant.volar.options import VmOptions, vm_options
from volant.volar.run_follow import End, follow, interrupted_by_hangup, stop
from volant.volar.run_plugin import BuildOptions, Pull, make_plugin
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Vm, VmCreate

NAMES_TO_TRY = 100


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", help="Name of the VM; the plugin's otherwise, with a number where that is taken.")
@click.option(
    "-d", "--detach", is_flag=True, help="Return when its workload is healthy instead of following it."
)
@click.option("--rm", "remove", is_flag=True, help="Delete the VM when it ends.")
@vm_options(publish=("-p", "--publish"))
@click.option("--entrypoint", metavar="COMMAND", help="What runs in place of the image's ENTRYPOINT and CMD.")
@click.option(
    "--pull", type=click.Choice(["missing", "always", "never"]), default="missing", show_default=True,
    help="Whether to fetch an image that there is a plugin of.",
)  # fmt: skip
@click.option("--platform", metavar="PLATFORM", help="Platform of the image, e.g. linux/amd64.")
@click.option("--build-arg", multiple=True, metavar="NAME=VALUE", help="ARG of the Dockerfile.")
@click.option(
    "--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for health, with -d."
)
@docker_options
@click.argument("source")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context, name: str | None, detach: bool, remove: bool, options: VmOptions, entrypoint: str | None,
    pull: Pull, platform: str | None, build_arg: tuple[str, ...], timeout: float, source: str, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a folder, Dockerfile, plugin or image as a VM, and show what it writes. Ctrl-C stops it in order.

    \b
    volar run ./my-app                          a folder with a Dockerfile or fledge.toml
    volar run -p 8080:80 nginx:1.27             docker.io/library/nginx:1.27, or a plugin of that name
    volar run -d --name db plugin.tar.gz        in the background
    volar run --rm debian:12 -- cat /etc/os-release
    """
    if detach and remove:
        raise UsageError(
            "cannot use --rm with --detach", resolution="delete it when it is done: volar rm NAME"
        )
    client = make_client(context)
    options = options.with_network(translate_network(options.network))
    plugin = make_plugin(client, source, BuildOptions(pull, make_build_arguments(platform, build_arg)))
    request = options.make_request(client, name or "", plugin)
    if words := list(command[1:] if command[:1] == ("--",) else command):
        request["command"] = words
    if entrypoint is not None:
        request["entrypoint"] = shlex.split(entrypoint)
    # As under docker: without a policy that says otherwise, the end of the command is the end of it all.
    if options.restart in (None, "no"):
        request["run_once"] = True
    vm = create_vm(client, request, name)
    if detach:
        with delete_when_interrupted(client, vm["name"]):
            announce(client, wait_for_workload(client, vm["name"], timeout))
        return
    # From here on a daemon that is stopped is waited for, and not started again behind the back of who stopped it.
    client = make_client(context, autostart=False)
    end = run_in_foreground(client, vm["name"], remove=remove)
    if end.problem is not None:
        raise end.problem
    context.exit(end.exit_code)


def make_build_arguments(platform: str | None, build_arg: tuple[str, ...]) -> tuple[str, ...]:
    arguments = ["--platform", platform] if platform else []
    return (*arguments, *(word for text in build_arg for word in ("--build-arg", text)))


def create_vm(client: Client, request: VmCreate, name: str | None) -> Vm:
    """Create it under the name that was given, or the first that is free."""
    if name is not None:
        return client.create_vm(request)
    stem = request["plugin"].partition(":")[0]
    taken = {vm["name"] for vm in client.list_vms()}
    for number in range(1, NAMES_TO_TRY):
        chosen = stem if number == 1 else f"{stem[:60]}-{number}"
        if chosen in taken:
            continue
        try:
            return client.create_vm({**request, "name": chosen})
        except Conflict as error:
            # Somebody may have taken the name since; every other conflict is worth telling.
            if "name" not in error.what:
                raise
    raise Conflict(
        f"cannot name the VM: {stem} to {stem}-{NAMES_TO_TRY - 1} are taken", resolution="give --name NAME"
    )


def run_in_foreground(client: Client, name: str, *, remove: bool) -> End:
    """Follow it to its end. Ctrl-C, SIGTERM and a terminal that goes away stop it in order."""
    try:
        with interrupted_by_hangup():
            return follow(client, name)
    except KeyboardInterrupt:
        click.echo(f"\nstopping {name}; Ctrl-C again switches it off", err=True)
        stop(client, name)
        raise
    finally:
        if remove:
            with suppress(NotFound):
                client.delete(f"/vms/{quoted(name)}", force=True)
        else:
            click.echo(f"{name} keeps its disk: volar start {name}, or volar rm {name}", err=True)
