# SPDX-License-Identifier: Apache-2.0
"""What a stack has and does: `volar compose ps`, `logs`, `top`, `port`, `ls`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from volant.digits import is_whole_number
from volant.errors import NotFound
from volant.volar.commands.compose import make_composer
from volant.volar.commands.compose_options import ignored
from volant.volar.output import print_table
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import PublishedPort, Vm
    from volant.volar.compose.stack_commands import Composer

PROJECT_LABEL, SERVICE_LABEL = "volant.compose.project", "volant.compose.service"
FORMATS = click.Choice(["table", "json"])


class LineCount(click.ParamType[int | None]):
    name = "COUNT"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        if value == "all":
            return None
        if not is_whole_number(str(value)):
            self.fail(f"{value!r} is no number of lines", param, ctx)
        return int(value)


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--services", "only_services", is_flag=True, help="Names of the services only.")
@click.option("--status", multiple=True, metavar="STATUS", help="Only VMs that are so, e.g. running.")
@click.option("--format", "form", type=FORMATS, default="table", help="json: an object a line.")
@ignored("-a/--all", "--no-trunc", "--orphans")
@click.argument("services", nargs=-1)
@click.pass_context
def ps(
    context: click.Context, quiet: bool, only_services: bool, status: tuple[str, ...], form: str,
    services: tuple[str, ...],
) -> None:  # fmt: skip
    """List the stack's VMs, those that have ended too.

    \b
    volar compose ps
    volar compose ps --format json
    """
    composer = make_composer(context)
    vms = [composer.client.get_vm(name) for name in composer.list_names(services)]
    vms = [vm for vm in vms if not status or vm["status"] in status]
    if quiet or only_services:
        names = [vm["labels"].get(SERVICE_LABEL, "") if only_services else vm["name"] for vm in vms]
        click.echo("".join(f"{name}\n" for name in dict.fromkeys(names)), nl=False)
        return
    balanced = composer.list_ports()
    if form == "json":
        for vm in vms:
            click.echo(json.dumps(describe(composer, vm, list_ports(vm, balanced))))
        return
    rows = []
    for vm in vms:
        ports = [
            f"{port['host_ip']}:{port['host_port']}->{port['guest_port']}/{port['protocol']}"
            for port in list_ports(vm, balanced)
        ]
        ended = f" ({vm['exit_code']})" if vm["status"] == "stopped" and vm["exit_code"] is not None else ""
        service = vm["labels"].get(SERVICE_LABEL, "")
        rows.append([vm["name"], service, f"{vm['status']}{ended}", vm["health"], " ".join(ports) or "-"])
    print_table(["NAME", "SERVICE", "STATUS", "HEALTH", "PORTS"], rows)


def list_ports(vm: Vm, balanced: dict[str, list[PublishedPort]]) -> list[PublishedPort]:
    """Those of a deployment are balanced over its VMs."""
    return balanced.get(vm["labels"].get("volant.deployment", ""), vm["ports"])


def describe(composer: Composer, vm: Vm, ports: Sequence[PublishedPort]) -> dict[str, Any]:
    """By the keys that `docker compose ps --format json` has."""
    return {
        "Name": vm["name"],
        "Project": composer.project.name,
        "Service": vm["labels"].get(SERVICE_LABEL, ""),
        "Image": f"{vm['plugin']['name']}:{vm['plugin']['version']}",
        "State": vm["status"],
        "Health": vm["health"],
        "ExitCode": vm["exit_code"] or 0,
        "Publishers": [
            {
                "URL": port["host_ip"], "TargetPort": port["guest_port"], "PublishedPort": port["host_port"],
                "Protocol": port["protocol"],
            }
            for port in ports
        ],
    }  # fmt: skip


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("-n", "--tail", type=LineCount(), help="Only the last lines of each VM; all: every line.")
@click.option("--since", help="Only lines after this time (RFC 3339) or age (10m, 2h).")
@click.option("-t", "--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("--no-log-prefix", is_flag=True, help="Do not say whose line it is.")
@ignored("--no-color")
@click.argument("services", nargs=-1)
@click.pass_context
def logs(
    context: click.Context, follow: bool, tail: int | None, since: str | None, timestamps: bool,
    no_log_prefix: bool, services: tuple[str, ...],
) -> None:  # fmt: skip
    """Show what the services wrote.

    \b
    volar compose logs -f web
    volar compose logs --since 10m -n 20
    """
    composer = make_composer(context)
    from volant.volar.compose.foreground import LineOptions, show_lines

    options = LineOptions(tail, since, timestamps, has_prefix=not no_log_prefix)
    show_lines(composer.client, composer.list_names(services), options, follow=follow)


@click.command()
@click.argument("services", nargs=-1)
@click.pass_context
def top(context: click.Context, services: tuple[str, ...]) -> None:
    """List the processes that the agents of the stack's VMs keep.

    \b
    volar compose top
    """
    composer = make_composer(context)
    rows = [
        [
            vm["name"],
            process["name"],
            str(process["pid"] or "-"),
            process["state"],
            process["started_at"] or "-",
        ]
        for vm in (composer.client.get_vm(name) for name in composer.list_names(services))
        for process in vm["processes"]
    ]
    print_table(["NAME", "PROCESS", "PID", "STATE", "STARTED"], rows)


@click.command()
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@click.option("--index", type=click.IntRange(1), default=1, show_default=True, help="Which of several VMs.")
@click.argument("service")
@click.argument("guest_port", metavar="PORT", type=click.IntRange(1, 65535))
@click.pass_context
def port(context: click.Context, protocol: str, index: int, service: str, guest_port: int) -> None:
    """Print where a port of a service is published.

    \b
    volar compose port web 80
    """
    composer = make_composer(context)
    names = composer.list_names([service])
    vm = composer.client.get_vm(names[index - 1]) if len(names) >= index else None
    for each in list_ports(vm, composer.list_ports()) if vm is not None else ():
        if (each["guest_port"], each["protocol"]) == (guest_port, protocol):
            click.echo(f"{each['host_ip']}:{each['host_port']}")
            return
    raise NotFound(
        f"cannot find port {guest_port}/{protocol} of {service}: it is not published",
        resolution="volar compose ps",
    )


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--format", "form", type=FORMATS, default="table")
@ignored("-a/--all")
@click.pass_context
def ls(context: click.Context, quiet: bool, form: str) -> None:
    """List the stacks that have VMs; needs no compose file.

    \b
    volar compose ls
    """
    stacks: dict[str, Counter[str]] = {}
    for vm in make_client(context).list_vms():
        if name := vm["labels"].get(PROJECT_LABEL):
            stacks.setdefault(name, Counter())[vm["status"]] += 1
    shown = {
        name: ", ".join(f"{status}({count})" for status, count in sorted(counts.items()))
        for name, counts in sorted(stacks.items())
    }
    if quiet:
        click.echo("".join(f"{name}\n" for name in shown), nl=False)
    elif form == "json":
        click.echo(json.dumps([{"Name": name, "Status": status} for name, status in shown.items()]))
    else:
        print_table(["NAME", "STATUS"], [[name, status] for name, status in shown.items()])
