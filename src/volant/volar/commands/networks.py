# SPDX-License-Identifier: Apache-2.0
"""volar networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.volar.client import quoted
from volant.volar.groups import Commands
from volant.volar.labels import parse_labels
from volant.volar.names import NETWORK
from volant.volar.output import Format, output_option, show_object, show_rows
from volant.volar.tables import format_age
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import VmNetwork

ALIASES = {"ls": "list", "rm": "delete", "remove": "delete", "get": "show", "inspect": "show"}


@click.group(cls=Commands, aliases=ALIASES)
def networks() -> None:
    """Manage networks: VMs reach each other by name where they share one."""


@networks.command()
@click.argument("name")
@click.option("--internal", is_flag=True, help="No way out for VMs that are in no other network.")
@click.option("--label", multiple=True, metavar="NAME=VALUE", help="A label (repeatable).")
@output_option
@click.pass_context
def create(
    context: click.Context, name: str, internal: bool, label: tuple[str, ...], output_format: Format
) -> None:
    """Create a network.

    \b
    volar networks create back --internal
    volar vms create db --plugin postgres --network back
    volar vms create web --plugin nginx --network back --network default
    """
    network = make_client(context).create_network(name, internal=internal, labels=parse_labels(label))
    if output_format != "table":
        show_object(network, output_format, lambda: describe(network))
        return
    click.echo(f"{network['name']} has been created")


@networks.command("list")
@output_option
@click.pass_context
def list_networks(context: click.Context, output_format: Format) -> None:
    """List the networks."""
    columns = {
        "NAME": lambda network: network["name"],
        "INTERNAL": lambda network: "yes" if network["internal"] else "",
        "VMS": lambda network: ", ".join(network["vms"]),
        "AGE": lambda network: format_age(network["created_at"]),
    }
    show_rows(make_client(context).list_networks(), output_format, kind="network", columns=columns)


@networks.command()
@click.argument("name", type=NETWORK)
@output_option
@click.pass_context
def show(context: click.Context, name: str, output_format: Format) -> None:
    """Show one network and its VMs."""
    network: VmNetwork = make_client(context).get(f"/networks/{quoted(name)}")
    show_object(network, output_format, lambda: describe(network))


def describe(network: VmNetwork) -> list[tuple[str, Any]]:
    return [
        ("name", network["name"]),
        ("internal", "yes" if network["internal"] else "no"),
        ("labels", " ".join(f"{name}={value}" for name, value in network["labels"].items())),
        ("vms", ", ".join(network["vms"])),
        ("age", format_age(network["created_at"])),
    ]


@networks.command()
@click.argument("names", nargs=-1, required=True, type=NETWORK)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...]) -> None:
    """Delete networks that no VM is in."""
    client = make_client(context)
    for name in names:
        client.delete_network(name)
        click.echo(f"deleted {name}")
