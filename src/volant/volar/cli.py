# SPDX-License-Identifier: Apache-2.0
"""Entry point of volar: parse, call, turn an error into an exit code.

Start-up time is a feature (`volar vms list` in a prompt or a loop), so each group's module is imported only when one
of its commands is asked for, and nothing here imports more than click.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from volant import __version__
from volant.errors import Interrupted, VolantError
from volant.volar.docker_words import TOP_ALIASES, TOP_ANSWERS
from volant.volar.groups import Commands, Lazy

if TYPE_CHECKING:
    from volant.volar.client import Client

COMMANDS = {
    "run": Lazy("run", "run", "Run a folder, Dockerfile, plugin or image as a VM."),
    "compose": Lazy("compose", "compose", "Run the services of a compose file as VMs."),
    "vms": Lazy("vms", "vms", "Create, inspect, enter and delete VMs."),
    "top": Lazy("vms_stats", "top", "Show what VMs use, live."),
    "plugins": Lazy("plugins", "plugins", "Install, list and remove plugins."),
    "secrets": Lazy("secrets", "secrets", "Manage secrets: values that VMs may read."),
    "tokens": Lazy(
        "tokens", "tokens", "Manage API tokens: they let programs in over TCP, each within its scope."
    ),
    "volumes": Lazy("volumes", "volumes", "Manage volumes: disks that outlive the VMs that mount them."),
    "networks": Lazy("networks", "networks", "Manage networks: VMs reach each other where they share one."),
    "deployments": Lazy(
        "deployments", "deployments", "Manage deployments: several VMs of a plugin behind one address."
    ),
    "snapshots": Lazy("snapshots", "snapshots", "Manage snapshots: a VM's disk and memory at one instant."),
    "dashboard": Lazy("dashboard", "dashboard", "Open the daemon's page in a browser."),
    "events": Lazy("events", "events", "Show what happens to VMs."),
    "setup": Lazy("host", "setup", "Prepare this host: kernel, bridge, service."),
    "doctor": Lazy("host", "doctor", "Show what this host can do, and how to fix what it cannot."),
    "daemon": Lazy("daemon", "daemon", "Start, stop and inspect this user's volantd."),
    "context": Lazy("context", "context", "Manage contexts: addresses of several daemons."),
    "cluster": Lazy("cluster", "cluster", "Make this host a node of a Kubernetes cluster."),
    "export": Lazy("export", "export", "Write a plugin or a VM for a platform that runs virtual machines."),
    "mcp": Lazy("mcp", "mcp", "Serve VMs to an agent (Model Context Protocol)."),
    "system": Lazy("system", "system", "Inspect the daemon and its host; back up and restore its state."),
    "completion": Lazy("completion", "completion", "Print the completion script of a shell."),
    "version": Lazy("system", "version", "Print the versions of volar and of the daemon."),
}


@click.group(
    cls=Commands,
    lazy=COMMANDS,
    aliases=TOP_ALIASES,
    answers=TOP_ANSWERS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Short forms: ps, create, start, stop, restart, rm, get, inspect, logs, exec, ssh, cp, stats are commands"
    " of vms; images and rmi those of plugins. Environment: VOLANT_API_BASE (socket path or http address),"
    " VOLANT_CONTEXT, VOLANT_TOKEN, VOLANT_HOME.",
)
@click.version_option(__version__, "--version", prog_name="volar")
@click.option("-a", "--api", metavar="ADDRESS", help="The daemon: a socket's path or http://127.0.0.1:7777.")
@click.option("-c", "--context", "context_name", metavar="NAME", help="A daemon of `volar context list`.")
def volar(api: str | None, context_name: str | None) -> None:
    """Run container images as virtual machines.

    \b
    volar run ./my-app
    volar plugins install ./nginx.tar.gz
    volar vms create my-nginx --plugin nginx
    volar vms ssh my-nginx
    """


def main() -> NoReturn:
    # SIGPIPE stays ignored: a daemon that answers before it has read all of an upload closes its end, and says why. A
    # reader that went away (`volar vms list | head -1`) is an error to click, which ends us quietly.
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], client: Client | None = None) -> int:
    """One command with its exit code. `client` takes the place of the daemon that the environment names."""
    try:
        result = volar.main(list(arguments), prog_name="volar", standalone_mode=False, obj=client)
        return result if isinstance(result, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Interrupted.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except VolantError as error:
        from volant.volar.printable import make_printable

        click.echo(f"error: {make_printable(str(error))}", err=True)
        return error.exit_code
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        click.echo(f"error: cannot use{place or ' this host'}: {error.strerror or error}", err=True)
        return VolantError.exit_code


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
