# SPDX-License-Identifier: Apache-2.0
"""volar daemon: this user's volantd."""

from __future__ import annotations

import click

from volant.contract.daemon_process import find_daemon_pid, stop_daemon
from volant.contract.paths import find_socket, find_state_dir
from volant.errors import Unreachable
from volant.volar.daemon_start import is_answering, start_daemon
from volant.volar.groups import Commands
from volant.volar.output import Format, output_option, show_object

LOG_ANSWER = "volar daemon status names its log"


@click.group(
    cls=Commands, answers={"restart": "volar daemon stop, then volar daemon start", "logs": LOG_ANSWER}
)
def daemon() -> None:
    """Start, stop and inspect this user's volantd. VMs keep running without it; sessions and port-forwards do not."""


@daemon.command()
def start() -> None:
    """Start the daemon if it is not running."""
    if is_answering(find_socket()):
        click.echo("volantd runs already")
        return
    start_daemon()
    click.echo(f"volantd answers at {find_socket()}")


@daemon.command()
def stop() -> None:
    """Stop the daemon. Its VMs run on and are adopted when it returns.

    Everything that goes through it ends: ssh sessions, exec, cp, consoles, port-forwards and published ports of bridged
    VMs. `volar vms logs --follow` waits for its return.
    """
    if not stop_daemon(find_socket(), find_state_dir() / "volantd.log"):
        click.echo("volantd does not run")
        return
    click.echo("volantd has stopped; VMs run on, sessions and port-forwards through it have ended")


@daemon.command()
@output_option
@click.pass_context
def status(context: click.Context, output_format: Format) -> None:
    """Show whether the daemon is running, and where its files are. Exits 11 if it is not."""
    pid = find_daemon_pid(find_socket())
    facts = {
        "running": pid is not None,
        "pid": pid,
        "socket": str(find_socket()),
        "state": str(find_state_dir()),
        "log": str(find_state_dir() / "volantd.log"),
    }
    show_object(facts, output_format, lambda: list(facts.items()))
    if pid is None:
        context.exit(Unreachable.exit_code)
