# SPDX-License-Identifier: Apache-2.0
"""volar vms fork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volant.errors import UsageError
from volant.volar.client import quoted
from volant.volar.commands.vms_create import announce
from volant.volar.commands.vms_show import show_vms
from volant.volar.names import VM
from volant.volar.output import Format, output_option
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Vm


@click.command()
@click.argument("source", type=VM)
@click.argument("name")
@click.option("--count", type=click.IntRange(1, 100), default=1, show_default=True, help="NAME-1, NAME-2, …")
@output_option
@click.pass_context
def fork(context: click.Context, source: str, name: str, count: int, output_format: Format) -> None:
    """Create running VMs from a running one: copies of its disk and memory, shared until they are written.

    Each has its own name, address, keys, random numbers and clock before any of its processes continues.

    \b
    volar vms fork web web-2
    volar vms fork worker batch --count 8
    """
    if name == source:
        raise UsageError(f"cannot fork {source} into itself", resolution="give the new VM another name")
    client = make_client(context)
    names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
    made: list[Vm] = client.make(f"/vms/{quoted(source)}/fork", {"names": names}, timeout_seconds=600)
    if output_format != "table":
        show_vms(made, output_format)
        return
    for vm in made:
        announce(client, vm)
