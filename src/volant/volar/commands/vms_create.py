# SPDX-License-Identifier: Apache-2.0
"""volar vms create."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from volant.errors import NotFound, UsageError
from volant.volar.client import Client, quoted
from volant.volar.cold_boots import find_cause
from volant.volar.commands.vms import no_wait_option, timeout_option
from volant.volar.commands.vms_show import describe_ports, has_own_system, show_vms
from volant.volar.fetching_watch import telling_fetches
from volant.volar.names import PLUGIN, SNAPSHOT
from volant.volar.options import VmOptions, vm_options
from volant.volar.output import Format, output_option
from volant.volar.printable import make_printable_line
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Vm


@click.command()
@click.argument("name")
@click.option("-p", "--plugin", default="", type=PLUGIN, help="NAME or NAME:VERSION.")
@click.option(
    "--from-snapshot", "snapshot", type=SNAPSHOT, help="Snapshot to create it from, in place of a plugin."
)
@vm_options()
@click.option("--no-start", is_flag=True, help="Only create it.")
@click.option("--cold", is_flag=True, help="Boot it even if there is a template to wake from.")
@no_wait_option
@timeout_option
@output_option
@click.pass_context
def create(
    context: click.Context, name: str, plugin: str, snapshot: str | None, options: VmOptions, no_start: bool,
    cold: bool, no_wait: bool, timeout: float, output_format: Format,
) -> None:  # fmt: skip
    """Create a VM from a plugin or a snapshot and start it; returns when its workload is healthy.

    \b
    volar vms create my-nginx --plugin nginx
    volar vms create db --plugin postgres --memory 1024 --secret db-password
    volar vms create db-2 --from-snapshot before-upgrade
    volar vms create app --plugin my-app --cloud-init user-data.yaml --publish 8080:80
    """
    if bool(plugin) == (snapshot is not None):
        raise UsageError(
            f"cannot create {name}: it is made of a plugin or of a snapshot",
            resolution=f"volar vms create {name} --plugin NAME   (or --from-snapshot NAME)",
        )
    client = make_client(context)
    if snapshot is not None:
        options = options.of_snapshot()
    request = options.make_request(client, name, plugin, start=not no_start)
    if cold:
        request["cold"] = True
    if snapshot is not None:
        request["snapshot"] = snapshot
    with delete_when_interrupted(client, name):
        with telling_fetches(client, name, tell):
            vm = client.create_vm(request)
        if not no_start and not no_wait:
            from volant.volar.boot_watch import wait_for_workload

            vm = wait_for_workload(client, name, timeout, quiet=output_format != "table")
            if snapshot is not None and (cause := find_cause(client, name)):
                click.echo(f"{name} booted from its disk: {cause}", err=True)
    if output_format == "table":
        announce(client, vm)
    else:
        show_vms([vm], output_format)


def announce(client: Client, vm: Vm) -> None:
    """One line that says where the new VM is reached, and another where the first cannot say it."""
    place = vm["url"] or vm["ip"]
    # In user mode the address leads to the ports that are published there, and to nothing else.
    reachable = vm["network"] != "user" or vm["ports"]
    click.echo(f"{vm['name']} is {vm['status']}" + (f" at {place}" if place and reachable else ""))
    if vm["network"] == "user" and (not vm["url"] or has_own_system(client, vm)):
        ports = ", ".join(describe_ports(vm)) or "none; give --publish PORT at its creation"
        click.echo(f"published ports: {ports}")


@contextmanager
def delete_when_interrupted(client: Client, name: str) -> Iterator[None]:
    """Ctrl-C inside leaves no VM that was being made; one that had the name before is left alone."""
    began = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted: deleting {name}, which has not come up yet", err=True)
        _delete_own(client, name, began)
        raise


def tell(line: str) -> None:
    click.echo(make_printable_line(line), err=True)


def _delete_own(client: Client, name: str, began: str) -> None:
    """The interrupt may have come while the daemon was still reading the request: give it a moment to appear."""
    for _ in range(10):
        with suppress(NotFound):
            if _is_older(client, name, began):
                return
            # Also one that has no row yet, because its disks are being fetched.
            client.delete(f"/vms/{quoted(name)}", force=True)
            return
        time.sleep(0.1)


def _is_older(client: Client, name: str, began: str) -> bool:
    try:
        return client.get_vm(name)["created_at"] < began
    except NotFound:
        return False
