# SPDX-License-Identifier: Apache-2.0
"""volar vms update."""

from __future__ import annotations

from typing import Any

import click

from volant.errors import UsageError
from volant.volar.client import quoted
from volant.volar.names import vm_argument
from volant.volar.options import Mebibytes, Period, parse_publish, read_egress
from volant.volar.target import make_client


@click.command()
@vm_argument
@click.option("--cpus", type=click.IntRange(1, 256))
@click.option("-m", "--memory", type=Mebibytes(), help="MiB, or with a suffix: 512m, 2g.")
@click.option("--disk-size", metavar="SIZE", help="Grow the root disk to this, e.g. 20G.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable; NAME= empties it.")
@click.option("--env-rm", multiple=True, metavar="NAME", help="Remove a variable.")
@click.option("--publish", multiple=True, metavar="[[IP:]PORT:]GUEST_PORT", help="In place of those before.")
@click.option("--publish-none", is_flag=True, help="Publish nothing beyond the VM's own address.")
@click.option("-l", "--label", multiple=True, metavar="NAME=VALUE")
@click.option("--label-rm", multiple=True, metavar="NAME", help="Remove a label.")
@click.option("--restart", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped.")
@click.option("--kernel", metavar="NAME", help='One of volar system kernels; "" for the usual one.')
@click.option("--kernel-arguments", metavar="TEXT", help='In place of those before; "" for none.')
@click.option("--egress", metavar="none|open|NAME,CIDR,...", help="In place of the one before, at once.")
@click.option("--suspend-when-idle", type=Period(), metavar="TIME", help="E.g. 10m; 0: never.")
@click.pass_context
def update(
    context: click.Context, name: str, cpus: int | None, memory: int | None, disk_size: str | None,
    env: tuple[str, ...], env_rm: tuple[str, ...], publish: tuple[str, ...], publish_none: bool,
    label: tuple[str, ...], label_rm: tuple[str, ...], restart: str | None, kernel: str | None,
    kernel_arguments: str | None, egress: str | None, suspend_when_idle: int | None,
) -> None:  # fmt: skip
    """Change a VM: CPUs, memory, disk, environment, ports, labels, restart policy, kernel, egress, sleep.

    What needs a new process takes effect at the next start, and is named.
    """
    body: dict[str, Any] = {
        "vcpu": cpus,
        "memory_mb": memory,
        "disk_size": disk_size,
        "env": {**_read_pairs(env, "--env"), **dict.fromkeys(env_rm)},
        "publish": [parse_publish(text) for text in publish] if publish or publish_none else None,
        "labels": {**_read_pairs(label, "--label"), **dict.fromkeys(label_rm)},
        "restart": restart,
        "kernel": kernel,
        "kernel_arguments": kernel_arguments,
        "suspend_when_idle_seconds": suspend_when_idle,
        **({} if egress is None else {"egress": read_egress(egress)}),
    }
    vm = make_client(context).call("PATCH", f"/vms/{quoted(name)}", body=body)
    click.echo(f"updated {name}")
    if vm["pending"]:
        click.echo(
            f"{', '.join(vm['pending'])}: from the next start on, e.g. volar vms restart {name}", err=True
        )


def _read_pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise UsageError(f"cannot use {option} {text!r}: not NAME=VALUE")
    return dict(text.split("=", 1) for text in given)
