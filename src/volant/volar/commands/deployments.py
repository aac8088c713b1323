# SPDX-License-Identifier: Apache-2.0
"""volar deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.volar.deployment_options import PolicyOptions, policy_options
from volant.volar.deployment_watch import wait_for_deployment
from volant.volar.groups import Commands
from volant.volar.labels import format_labels, parse_labels
from volant.volar.names import DEPLOYMENT, PLUGIN
from volant.volar.options import Mebibytes, VmOptions, parse_environment, parse_publish, vm_options
from volant.volar.output import Format, output_option, print_table, show_document, show_facts, show_rows
from volant.volar.tables import format_age, format_cell
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Deployment, DeploymentRevision, TemplateChange
    from volant.volar.client import Client

ALIASES = {
    "ls": "list",
    "rm": "delete",
    "remove": "delete",
    "show": "get",
    "inspect": "get",
    "undo": "rollback",
}

no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Return at once instead of when all VMs are ready."
)
timeout_option = click.option(
    "--timeout", type=float, default=600.0, show_default=True, help="Seconds to wait for the VMs."
)


@click.group(cls=Commands, aliases=ALIASES)
def deployments() -> None:
    """Manage deployments: several VMs of a plugin behind one address, replaced when they fail."""


@deployments.command()
@click.argument("name")
@click.argument("command", nargs=-1)
@click.option("-p", "--plugin", required=True, type=PLUGIN, help="NAME or NAME:VERSION.")
@click.option("-r", "--replicas", type=click.IntRange(0), default=1, show_default=True, help="How many VMs.")
@vm_options()
@policy_options
@no_wait_option
@timeout_option
@output_option
@click.pass_context
def create(
    context: click.Context, name: str, command: tuple[str, ...], plugin: str, replicas: int, options: VmOptions,
    policy: PolicyOptions, no_wait: bool, timeout: float, output_format: Format,
) -> None:  # fmt: skip
    """Create a deployment; returns when all of its VMs are ready. COMMAND takes the place of the image's CMD.

    Published ports belong to the deployment: connections go to the VMs that are healthy. With --restart a VM that
    ends is started again in place, with its disk; without, a fresh one takes its place.

    \b
    volar deployments create web --plugin nginx --replicas 3 --publish 8080:80
    volar deployments create worker --plugin app -r 2 -e QUEUE=mail -- worker --verbose
    """
    client = make_client(context)
    vm = dict(options.make_request(client, name, plugin))
    publish = vm.pop("publish")
    del vm["name"], vm["start"]
    if command:
        vm["command"] = list(command)
    labels = vm.pop("labels")
    request: Any = {
        "name": name, "replicas": replicas, "vm": {**vm, "labels": labels}, "publish": publish,
        "update": policy.make_request(), "labels": labels,
    }  # fmt: skip
    client.create_deployment(request)
    finish(client, name, timeout, output_format, no_wait=no_wait)


@deployments.command("list")
@output_option
@click.pass_context
def list_deployments(context: click.Context, output_format: Format) -> None:
    """List the deployments."""
    columns = {
        "NAME": lambda deployment: deployment["name"],
        "STATUS": lambda deployment: deployment["status"],
        "READY": lambda deployment: f"{deployment['ready']}/{deployment['replicas']}",
        "UPDATED": lambda deployment: deployment["updated"],
        "REVISION": lambda deployment: deployment["revision"],
        "PLUGIN": describe_plugin,
        "PORTS": lambda deployment: ", ".join(describe_ports(deployment)),
        "AGE": lambda deployment: format_age(deployment["created_at"]),
    }
    wide = {"REASON": lambda deployment: deployment["reason"]}
    rows = make_client(context).list_deployments()
    show_rows(rows, output_format, kind="deployment", columns=columns, wide=wide)


@deployments.command()
@click.argument("name", type=DEPLOYMENT)
@output_option
@click.pass_context
def get(context: click.Context, name: str, output_format: Format) -> None:
    """Show one deployment: its VMs, where it is reached, what is in progress, and its revisions."""
    client = make_client(context)
    deployment = client.get_deployment(name)
    if output_format in ("json", "yaml"):
        show_document(deployment, output_format)
        return
    show_facts(describe(deployment))
    click.echo()
    show_vms(deployment)
    click.echo()
    show_revisions(client.list_revisions(name))


def describe(deployment: Deployment) -> list[tuple[str, Any]]:
    policy = deployment["update"]
    return [
        ("name", deployment["name"]),
        ("status", deployment["status"]),
        ("reason", deployment["reason"]),
        ("ready", f"{deployment['ready']} of {deployment['replicas']}"),
        ("updated", f"{deployment['updated']} of {deployment['replicas']}"),
        ("revision", deployment["revision"]),
        ("plugin", describe_plugin(deployment)),
        ("ports", "\n".join(describe_ports(deployment))),
        (
            "update",
            f"at most {policy['max_unavailable']} unavailable and {policy['max_surge']} more;"
            f" healthy within {policy['healthy_seconds']:g} s; {policy['drain_seconds']:g} s to drain",
        ),
        ("labels", format_labels(deployment["labels"])),
        ("age", format_age(deployment["created_at"])),
    ]


def show_vms(deployment: Deployment) -> None:
    rows = [
        [
            vm["name"],
            vm["status"],
            vm["health"],
            "yes" if vm["ready"] else "no",
            str(vm["revision"]),
            format_cell(vm["reason"]),
        ]
        for vm in deployment["vms"]
    ]
    print_table(["VM", "STATUS", "HEALTH", "READY", "REVISION", "REASON"], rows)


def show_revisions(revisions: list[DeploymentRevision]) -> None:
    rows = [
        [
            str(revision["number"]),
            f"{revision['plugin']['name']}:{revision['plugin']['version']}",
            revision["cause"],
            revision["who"],
            format_age(revision["created_at"]),
        ]
        for revision in revisions
    ]
    print_table(["REVISION", "PLUGIN", "CAUSE", "WHO", "AGE"], rows)


def describe_plugin(deployment: Deployment) -> str:
    return f"{deployment['plugin']['name']}:{deployment['plugin']['version']}"


def describe_ports(deployment: Deployment) -> list[str]:
    return [
        f"{port['host_ip']}:{port['host_port']}->{port['guest_port']}"
        + ("/udp" if port["protocol"] == "udp" else "")
        for port in deployment["publish"]
    ]


@deployments.command()
@click.argument("name", type=DEPLOYMENT)
@click.argument("replicas", type=click.IntRange(0))
@no_wait_option
@timeout_option
@click.pass_context
def scale(context: click.Context, name: str, replicas: int, no_wait: bool, timeout: float) -> None:
    """Have more VMs, or fewer.

    \b
    volar deployments scale web 5
    """
    client = make_client(context)
    client.update_deployment(name, {"replicas": replicas})
    finish(client, name, timeout, "table", no_wait=no_wait)


@deployments.command()
@click.argument("name", type=DEPLOYMENT)
@click.argument("command", nargs=-1)
@click.option("-p", "--plugin", type=PLUGIN, help="NAME (its newest version) or NAME:VERSION.")
@click.option("--cpus", type=click.IntRange(1, 256))
@click.option("-m", "--memory", type=Mebibytes(), metavar="MIB", help="Memory in MiB, or 512m, 2g.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; NAME= empties it.")
@click.option("--env-rm", multiple=True, metavar="NAME", help="Remove a variable.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="Of the deployment and its VMs.")
@click.option("--label-rm", multiple=True, metavar="NAME", help="Remove a label.")
@click.option("--publish", multiple=True, metavar="[[IP:]PORT:]GUEST_PORT", help="In place of those before.")
@click.option("--publish-none", is_flag=True, help="Publish no port.")
@policy_options
@no_wait_option
@timeout_option
@click.pass_context
def update(
    context: click.Context, name: str, command: tuple[str, ...], plugin: str | None, cpus: int | None,
    memory: int | None, env: tuple[str, ...], env_rm: tuple[str, ...], label: tuple[str, ...],
    label_rm: tuple[str, ...], publish: tuple[str, ...], publish_none: bool, policy: PolicyOptions, no_wait: bool,
    timeout: float,
) -> None:  # fmt: skip
    """Change what the VMs are made of, and replace them step by step.

    A new VM must be healthy before an old one goes, as far as --max-unavailable says; an old one gets no new
    connections and time for those that are open. Where no new VM becomes healthy in time, all goes back.

    \b
    volar deployments update web --plugin nginx:1.2.0
    volar deployments update web -e LEVEL=debug --memory 512 --max-surge 2
    """
    labels = {**parse_labels(label), **dict.fromkeys(label_rm)}
    change: TemplateChange = {
        "plugin": plugin, "vcpu": cpus, "memory_mb": memory,
        "env": {**parse_environment(env), **dict.fromkeys(env_rm)}, "labels": labels,
    }  # fmt: skip
    if command:
        change["command"] = list(command)
    client = make_client(context)
    client.update_deployment(
        name,
        {
            "change": change,
            "publish": [parse_publish(text) for text in publish] if publish or publish_none else None,
            "update": policy.make_request(),
            "labels": labels,
        },
    )
    finish(client, name, timeout, "table", no_wait=no_wait)


@deployments.command()
@click.argument("name", type=DEPLOYMENT)
@click.option("--to", "revision", type=click.IntRange(1), help="This revision; else the one before.")
@no_wait_option
@timeout_option
@click.pass_context
def rollback(context: click.Context, name: str, revision: int | None, no_wait: bool, timeout: float) -> None:
    """Go back to an earlier revision, by the same steps as an update."""
    client = make_client(context)
    client.roll_back_deployment(name, revision)
    finish(client, name, timeout, "table", no_wait=no_wait)


@deployments.command()
@click.argument("names", nargs=-1, required=True, type=DEPLOYMENT)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete deployments with their VMs; volumes stay."""
    client = make_client(context)
    for name in names:
        client.delete_deployment(name)
        click.echo(f"deleted {name}")


def finish(client: Client, name: str, timeout: float, output_format: Format, *, no_wait: bool) -> None:
    """Wait unless told otherwise, and say how it is then."""
    if no_wait:
        deployment = client.get_deployment(name)
    else:
        deployment = wait_for_deployment(client, name, timeout, quiet=output_format != "table")
    if output_format in ("json", "yaml"):
        show_document(deployment, output_format)
        return
    if output_format == "name":
        click.echo(f"deployment/{name}")
        return
    places = ", ".join(describe_ports(deployment))
    click.echo(
        f"{name} is {deployment['status']}: {deployment['ready']} of {deployment['replicas']} VMs are ready"
        + (f" at {places}" if places else "")
    )
