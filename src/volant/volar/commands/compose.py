# SPDX-License-Identifier: Apache-2.0
"""volar compose: what a compose file says, as VMs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from volant.digits import is_whole_number
from volant.errors import NotFound, ToolMissing, UsageError
from volant.installation import name_install_command
from volant.volar.commands.compose_options import ANSWERS, ignored
from volant.volar.groups import Commands, Lazy
from volant.volar.run_follow import interrupted_by_hangup
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.volar.compose.stack_commands import Composer

PULLS = click.Choice(["missing", "always", "never"])


class Scale(click.ParamType[tuple[str, int]]):
    name = "SERVICE=COUNT"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        service, _, count = str(value).partition("=")
        if not service or not is_whole_number(count) or int(count) > 100:
            self.fail(f"{value!r} is not SERVICE=COUNT, with a count up to 100", param, ctx)
        return service, int(count)


# In files of their own, and loaded when they are asked for.
MORE = {
    "ps": Lazy("compose_look", "ps", "List the stack's VMs."),
    "logs": Lazy("compose_look", "logs", "Show what the services wrote."),
    "run": Lazy("compose_run", "run", "Run one command in a new VM that is as a service's."),
    "top": Lazy("compose_look", "top", "List the processes of the stack's VMs."),
    "port": Lazy("compose_look", "port", "Print where a port of a service is published."),
    "ls": Lazy("compose_look", "ls", "List the stacks that have VMs."),
    "kill": Lazy("compose_run", "kill", "Switch VMs off at once."),
    "rm": Lazy("compose_run", "rm", "Remove VMs that have stopped."),
}


@click.group(cls=Commands, lazy=MORE, answers=ANSWERS)
@click.option(
    "-f",
    "--file",
    multiple=True,
    metavar="FILE",
    help="Compose file, - for standard input; several are merged in order.",
)
@click.option("-p", "--project-name", metavar="NAME", help="Name of the stack.  [default: the folder's]")
@click.option("--profile", multiple=True, metavar="NAME", help="Also start services of this profile.")
@click.option("--env-file", multiple=True, metavar="FILE", help="Variables, in place of .env.")
@click.option("--project-directory", metavar="FOLDER", help="Folder that relative paths start from.")
@ignored("--ansi", "--progress", "--parallel", takes_value=True)
@ignored("--compatibility", "--all-resources")
def compose(**options: Any) -> None:
    """Run the services of a compose file as VMs, each as many as it has replicas.

    \b
    volar compose up -d
    volar compose logs -f web
    volar compose down -v
    """


def make_composer(context: click.Context) -> Composer:
    """For one command, of the group's options."""
    try:
        from volant.volar.compose.stack_commands import Composer, StackOptions
    except ImportError as error:
        raise ToolMissing(
            "cannot read compose files: fledge's libraries are not installed",
            resolution=name_install_command("fledge"),
        ) from error
    assert context.parent is not None
    options = StackOptions(**context.parent.params)
    project = options.load()
    return Composer(make_client(context), project, options.list_profiles(project), tell)


stop_timeout = click.option(
    "-t", "--timeout", type=click.FloatRange(0), help="Seconds to end, in place of stop_grace_period."
)


def tell(text: str) -> None:
    from volant.volar.printable import make_printable_line

    click.echo(make_printable_line(text), err=True)


@compose.command()
@click.option("-d", "--detach", is_flag=True, help="Return when all was started instead of following it.")
@click.option("--wait", is_flag=True, help="With -d: return when all is healthy.")
@click.option("--build", is_flag=True, help="Build images again.")
@click.option("--pull", type=PULLS, help="Whether to fetch images that already have a plugin.")
@click.option("--force-recreate", is_flag=True, help="New VMs, even if nothing has changed.")
@click.option(
    "--remove-orphans", is_flag=True, help="Remove VMs of services that are no longer in the files."
)
@click.option("--no-deps", is_flag=True, help="Do not start what the named services depend on.")
@click.option(
    "--timeout", "--wait-timeout", type=float, default=600.0, show_default=True,
    help="Seconds to wait for a dependency.",
)  # fmt: skip
@click.option("--scale", type=Scale(), multiple=True, help="How many VMs of a service to run, balanced.")
@click.option(
    "--abort-on-container-exit", "aborts", is_flag=True, help="Stop the stack when one of its VMs ends."
)
@click.option(
    "--exit-code-from",
    metavar="SERVICE",
    help="As --abort-on-container-exit, with the exit code of this one.",
)
@ignored(
    "--quiet-pull", "--quiet-build", "--no-color", "--no-log-prefix", "-y/--yes", "-V/--renew-anon-volumes"
)
@click.argument("services", nargs=-1)
@click.pass_context
def up(
    context: click.Context, detach: bool, wait: bool, build: bool, pull: Any, force_recreate: bool,
    remove_orphans: bool, no_deps: bool, timeout: float, scale: tuple[tuple[str, int], ...],
    aborts: bool, exit_code_from: str | None, services: tuple[str, ...],
) -> None:  # fmt: skip
    """Make the VMs match the files; only what differs is changed. Ctrl-C stops them in order.

    \b
    volar compose up
    volar compose up -d --build web
    volar compose up -d --scale web=3
    """
    if (aborts or exit_code_from) and (detach or wait):
        raise UsageError("cannot follow the stack to the end of one: leave out --detach and --wait")
    composer = make_composer(context)
    from volant.volar.compose.foreground import LineOptions, show_lines
    from volant.volar.compose.stack_commands import UpOptions

    if exit_code_from:
        composer.select([exit_code_from])  # NotFound before anything is done
    options = UpOptions(build, pull, force_recreate, remove_orphans, no_deps, timeout, dict(scale))
    composer.up(services, options)
    if detach or wait:
        if wait:
            composer.wait(timeout)
        return
    names = composer.list_names(list(composer.requests))
    tell("Ctrl-C stops the stack")
    try:
        with interrupted_by_hangup():
            follower = make_client(context, autostart=False)
            if aborts or exit_code_from:
                context.exit(composer.follow_to_an_end(follower, names, exit_code_from))
            show_lines(follower, names, LineOptions(), follow=True)
    except KeyboardInterrupt:
        tell("\nstopping the stack; Ctrl-C again switches it off")
        try:
            composer.stop(services)
        except KeyboardInterrupt:
            composer.kill()
        raise


@compose.command()
@click.option("-v", "--volumes", is_flag=True, help="Delete the stack's volumes, too.")
@stop_timeout
@ignored("--remove-orphans")
@ignored("--rmi", takes_value=True)
@click.pass_context
def down(context: click.Context, volumes: bool, timeout: float | None) -> None:
    """Stop and remove the stack's VMs; volumes are kept, except with -v.

    \b
    volar compose down -v
    """
    make_composer(context).down(volumes=volumes, timeout_seconds=timeout)


@compose.command()
@stop_timeout
@click.argument("services", nargs=-1)
@click.pass_context
def stop(context: click.Context, timeout: float | None, services: tuple[str, ...]) -> None:
    """Stop VMs in order; their disks stay.

    \b
    volar compose stop
    """
    make_composer(context).stop(services, timeout)


@compose.command()
@click.argument("services", nargs=-1)
@click.pass_context
def start(context: click.Context, services: tuple[str, ...]) -> None:
    """Start VMs that were stopped.

    \b
    volar compose start
    """
    make_composer(context).start(services)


@compose.command()
@stop_timeout
@ignored("--no-deps")
@click.argument("services", nargs=-1)
@click.pass_context
def restart(context: click.Context, timeout: float | None, services: tuple[str, ...]) -> None:
    """Restart VMs.

    \b
    volar compose restart web
    """
    composer = make_composer(context)
    composer.stop(services, timeout)
    composer.start(services)


@compose.command(
    name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.option("--index", type=click.IntRange(1), default=1, show_default=True, help="Which of several VMs.")
@click.option("-u", "--user", default="root", show_default=True, help="User in the guest.")
@click.option("-w", "--workdir", default="", help="Folder in the guest.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="More environment for it.")
@click.option("-T", "--no-tty", "--no-TTY", is_flag=True, help="No terminal, as it is without one here.")
@ignored("-i/--interactive", "-t/--tty", "--privileged")
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run_in_service(
    context: click.Context,
    index: int,
    user: str,
    workdir: str,
    env: tuple[str, ...],
    no_tty: bool,
    service: str,
    command: tuple[str, ...],
) -> None:
    """Run a command in a service's VM.

    \b
    volar compose exec db psql -U postgres
    """
    from volant.volar.commands.vms_guest import execute

    composer = make_composer(context)
    vms = composer.list_names([service])
    if len(vms) < index:
        raise NotFound(
            f"cannot run a command in {service}: it has no VM {index}", resolution="volar compose up -d"
        )
    context.invoke(
        execute,
        name=vms[index - 1],
        user=user,
        workdir=workdir or None,
        env=env,
        tty=sys.stdin.isatty() and sys.stdout.isatty() and not no_tty,
        command=command,
    )


@compose.command()
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@click.option("--services", is_flag=True, help="Names of the services only.")
@click.pass_context
def config(context: click.Context, quiet: bool, services: bool) -> None:
    """Show the files as they are understood, and what becomes of each key.

    \b
    volar compose config
    """
    composer = make_composer(context)
    from volant.volar.compose.showing import show_config

    for line in composer.project.warnings:
        tell(f"warning: {line}")
    composer.select(())
    for line in composer.list_remarks():
        tell(line)
    if services:
        click.echo("".join(f"{name}\n" for name in composer.project.stack.services), nl=False)
    elif not quiet:
        click.echo(show_config(composer.project), nl=False)


@compose.command()
@click.argument("services", nargs=-1)
@click.pass_context
def build(context: click.Context, services: tuple[str, ...]) -> None:
    """Build the plugins of services that have a build.

    \b
    volar compose build
    """
    fetch(context, services, is_build=True)


@compose.command()
@click.argument("services", nargs=-1)
@click.pass_context
def pull(context: click.Context, services: tuple[str, ...]) -> None:
    """Fetch the images of services again.

    \b
    volar compose pull
    """
    fetch(context, services, is_build=False)


def fetch(context: click.Context, services: Sequence[str], *, is_build: bool) -> None:
    composer = make_composer(context)
    from volant.volar.compose.plugins import find_plugins

    chosen = []
    for name in composer.select(services, alone=True):
        if (composer.project.stack.services[name].build is not None) is not is_build:
            if name in services:
                raise UsageError(
                    f"service {name} has {'no build' if is_build else 'a build'}",
                    resolution=f"volar compose {'pull' if is_build else 'build'} {name}",
                )
        else:
            chosen.append(name)
    plugins = find_plugins(composer.client, composer.project, chosen, build=is_build, pull="always")
    for name in chosen:
        click.echo(f"{name}: {plugins[name]}")
