# SPDX-License-Identifier: Apache-2.0
"""volar mcp: tools for an agent, over standard input and output."""

from __future__ import annotations

import threading

import click

from volant.errors import ToolMissing
from volant.volar.target import make_client


@click.command()
@click.option("--vms", type=click.IntRange(1, 100), default=4, show_default=True, help="Most VMs at a time.")
@click.option("--memory", type=click.IntRange(32), default=1024, show_default=True, help="Most MiB of each.")
@click.option("--cpus", type=click.IntRange(1, 256), default=2, show_default=True, help="Most CPUs of each.")
@click.option("--minutes", type=click.IntRange(1), default=60, show_default=True, help="How long a VM lives.")
@click.option(
    "--command-seconds",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Most time for one command.",
)
@click.pass_context
def mcp(context: click.Context, vms: int, memory: int, cpus: int, minutes: int, command_seconds: int) -> None:
    """Serve VMs to an agent over the Model Context Protocol, on standard input and output.

    An agent can run images, and enter, copy and delete the VMs that it created, and no others. They are deleted when
    its session ends.

    \b
    volar mcp --vms 2 --minutes 30
    """
    try:
        from volant.volar.mcp_server import make_server
    except ImportError as error:
        from volant.installation import name_install_command

        raise ToolMissing(
            "cannot serve MCP: the MCP library is not installed", resolution=name_install_command("mcp")
        ) from error
    from volant.volar.mcp_workshop import Limits, Workshop

    limits = Limits(vms, memory, cpus, minutes * 60.0, float(command_seconds))
    workshop = Workshop(make_client(context), limits, address=context.find_root().params.get("api"))
    threading.Thread(target=workshop.watch, daemon=True).start()
    try:
        make_server(workshop).run("stdio")
    finally:
        workshop.close()
