# SPDX-License-Identifier: Apache-2.0
"""volar daemon: this user's volantd."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from pathlib import Path

import click

from volant.contract.paths import find_socket, find_state_dir
from volant.errors import Unreachable
from volant.volar.daemon_start import is_answering, start_daemon
from volant.volar.output import Format, output_option, show_object

STOP_SECONDS = 30.0


@click.group()
def daemon() -> None:
    """Start, stop and inspect this user's volantd. VMs run on without it."""


def find_daemon_pid(path: Path) -> int | None:
    """The process at the other end of the socket (unix(7), SO_PEERCRED); None where nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


@daemon.command()
def start() -> None:
    """Start the daemon if it does not run."""
    if is_answering(find_socket()):
        click.echo("volantd runs already")
        return
    start_daemon()
    click.echo(f"volantd answers at {find_socket()}")


@daemon.command()
def stop() -> None:
    """Stop the daemon. Its VMs run on and are adopted when it returns."""
    pid = find_daemon_pid(find_socket())
    if pid is None:
        click.echo("volantd does not run")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            raise Unreachable(
                f"cannot stop volantd: process {pid} is still there after {STOP_SECONDS:g} s",
                resolution=f"see {find_state_dir() / 'volantd.log'}",
            )
        time.sleep(0.05)
    click.echo("volantd has stopped; VMs run on")


@daemon.command()
@output_option
def status(output_format: Format) -> None:
    """Tell whether the daemon runs, and where its things are. Exit code 11 where it does not."""
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
        raise SystemExit(Unreachable.exit_code)
