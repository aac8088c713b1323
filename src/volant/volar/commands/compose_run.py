# SPDX-License-Identifier: Apache-2.0
"""One command beside a stack, and the ends of its VMs: `volar compose run`, `kill`, `rm`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from volant.errors import Conflict, InvalidInput, NotFound
from volant.volar.commands.compose import PULLS, make_composer, tell
from volant.volar.commands.compose_options import ignored
from volant.volar.target import make_client


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="Print the VM's name and return.")
@click.option("--rm", "remove", is_flag=True, help="Remove the VM when it has ended.")
@click.option("--name", help="Name of the VM.  [default: PROJECT-SERVICE-run-…]")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="More environment for it.")
@click.option("--entrypoint", help="In place of the service's.")
@click.option("-u", "--user", help="User in the guest.")
@click.option("-w", "--workdir", help="Folder in the guest.")
@click.option("-P", "--service-ports", is_flag=True, help="Publish the service's ports.")
@click.option("--no-deps", is_flag=True, help="Do not start what the service depends on.")
@click.option("--build", is_flag=True, help="Build its image again.")
@click.option("--pull", type=PULLS, help="Whether to fetch an image that already has a plugin.")
@ignored("-T/--no-TTY/--no-tty", "-i/--interactive", "-t/--tty", "--quiet", "--quiet-pull", "--quiet-build")
@click.argument("service")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context, detach: bool, remove: bool, name: str | None, env: tuple[str, ...],
    entrypoint: str | None, user: str | None, workdir: str | None, service_ports: bool, no_deps: bool, build: bool,
    pull: Any, service: str, command: tuple[str, ...],
) -> None:  # fmt: skip
    """Run one command in a new VM that is as a service's; its exit code is volar's.

    What the service depends on is started first. The command has neither terminal nor input.

    \b
    volar compose run --rm web python manage.py migrate
    volar compose run --rm -e DEBUG=1 tests
    """
    composer = make_composer(context)
    from volant.volar.commands.run import run_in_foreground
    from volant.volar.compose.one_off import OneOff, read_variables, start_one_off
    from volant.volar.compose.stack_commands import UpOptions

    variables = read_variables(env, composer.project.environment)
    words = command[1:] if command[:1] == ("--",) else command
    wanted = OneOff(words, entrypoint, name, variables, user, workdir, service_ports)
    vm = start_one_off(composer, service, wanted, UpOptions(build, pull, no_deps=no_deps))
    if detach:
        click.echo(vm)
        return
    end = run_in_foreground(make_client(context, autostart=False), vm, remove=remove, for_engine=True)
    if end.problem is not None:
        raise end.problem
    context.exit(end.exit_code)


@click.command()
@click.option("-s", "--signal", "signal_name", default="SIGKILL", show_default=True)
@ignored("--remove-orphans")
@click.argument("services", nargs=-1)
@click.pass_context
def kill(context: click.Context, signal_name: str, services: tuple[str, ...]) -> None:
    """Switch VMs off at once.

    \b
    volar compose kill web
    """
    if signal_name.upper().removeprefix("SIG") not in ("KILL", "9"):
        raise InvalidInput(
            f"cannot send {signal_name} to VMs", resolution="volar compose exec SERVICE kill -SIGNAL PID"
        )
    composer = make_composer(context)
    for name in composer.list_names(services):
        with suppress(Conflict, NotFound):
            composer.client.stop_vm(name, force=True)
            tell(f"{name}: switched off")


@click.command()
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-s", "--stop", is_flag=True, help="Stop them first.")
@click.option("-v", "--volumes", is_flag=True, help="Delete the volumes that were made with them, too.")
@click.argument("services", nargs=-1)
@click.pass_context
def rm(context: click.Context, force: bool, stop: bool, volumes: bool, services: tuple[str, ...]) -> None:
    """Remove VMs that have stopped.

    \b
    volar compose rm -sf web
    """
    composer = make_composer(context)
    if stop:
        composer.stop(services)
    names = [
        vm["name"]
        for vms in composer.find_vms(services).values()
        for vm in vms
        if vm["status"] in ("stopped", "failed", "created")
    ]
    if not names:
        tell("no stopped VMs")
    elif force or click.confirm(f"remove {', '.join(names)}?", err=True):
        for name in names:
            with suppress(NotFound):
                composer.client.delete_vm(name, force=True, volumes=volumes)
                tell(f"{name}: removed")
