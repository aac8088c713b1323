# SPDX-License-Identifier: Apache-2.0
"""The program volantd: serve, setup, doctor. Parse, build the objects, call, turn an error into an exit code."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from volant import __version__
from volant.errors import Interrupted, VolantError
from volant.volantd.log_format import setup_logging
from volant.volantd.settings import Settings, read_settings

if TYPE_CHECKING:
    from volant.contract.agents import Architecture
    from volant.volantd.hypervisors.base import Hypervisor

FROM_VOLAR = "--from-volar"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="volantd")
def main_group() -> None:
    """The daemon that keeps plugins and VMs on this host. People use it through volar."""
    # Keys, disks and logs: whatever a command of ours makes is its user's alone, and no dump holds a guest's memory.
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@main_group.command()
@click.option(
    "--listen", metavar="HOST:PORT", help="Also answer on loopback TCP, e.g. 127.0.0.1:7777, with a token."
)
@click.option(
    "--kubernetes",
    metavar="KUBECONFIG",
    type=click.Path(path_type=Path),
    help="Be a node of this cluster, too.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["auto", "text", "journal", "json"]))
def serve(listen: str | None, kubernetes: Path | None, log_level: str | None, log_format: str | None) -> None:
    """Serve the API in the foreground until SIGTERM; VMs run on without the daemon."""
    settings = read_settings(listen=listen, kubernetes=kubernetes, log_level=log_level, log_format=log_format)
    setup_logging(settings.log_level, settings.log_format)
    gc.disable()  # until all is there that stays
    from volant.volantd.daemon import run_daemon

    asyncio.run(run_daemon(settings, make_hypervisor(settings), make_others(settings)))


@main_group.command()
@click.argument("what", type=click.Choice(["all", "kernel", "network", "service"]), default="all")
@click.option("--dry-run", is_flag=True, help="Print what would be done, as commands, and do nothing.")
@click.option("--remove", is_flag=True, help="Undo it; plugins, VMs and their disks stay.")
@click.option(
    "--architecture",
    type=click.Choice(["amd64", "arm64"]),
    help="Architecture of the kernel, if guests are not of this host's.",
)
def setup(what: str, dry_run: bool, remove: bool, architecture: Architecture | None) -> None:
    """Prepare this host: the guests' kernel (no root), the bridge with NAT (root), the service (as root the
    system's, else this user's own)."""
    from volant.volantd import service
    from volant.volantd import setup as steps

    settings = read_settings()
    match what:
        case "kernel":
            fetch = functools.partial(steps.setup_kernel, architecture=architecture)
            step = steps.remove_kernel if remove else fetch
        case "network":
            step = steps.remove_network if remove else steps.setup_network
        case "service":
            step = service.remove_service if remove else service.setup_service
        case _:
            step = steps.remove_all if remove else steps.setup_all
    step(settings, dry_run=dry_run)


@main_group.command()
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long the processes of each VM may take to end; then it is killed.",
)
def shutdown(timeout_seconds: float) -> None:
    """Stop the daemon and all its VMs in order, as when this host goes down: they start again with the daemon."""
    settings = read_settings()
    from volant.volantd.shutdown import shut_down

    asyncio.run(shut_down(settings, make_hypervisor(settings), timeout_seconds, make_others(settings)))


@main_group.command()
@click.option("-o", "--output", "output_format", type=click.Choice(["table", "json"]), default="table")
def doctor(output_format: str) -> None:
    """Show what this host can and cannot do, and how to fix it. Exit code 1 where VMs cannot run."""
    from volant.contract.finding import format_findings
    from volant.volantd.doctor import list_probes
    from volant.volantd.examination import Examination

    findings = Examination(list_probes(read_settings())).find_all()
    click.echo(format_findings(findings, output_format))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(1)


@main_group.command("import-vms")
def import_vms() -> None:
    """Import VMs that have folders but no rows, for instance after the database was lost.

    The daemon must not run. VMs that cannot be imported are listed, and the exit code is 5.
    """
    from volant.volantd.import_command import run_import

    settings = read_settings()
    run_import(settings, make_hypervisor(settings), make_others(settings))


def make_hypervisor(settings: Settings) -> Hypervisor:
    from volant.volantd.hypervisors.qemu import Qemu

    return Qemu(settings.cache_dir, state_dir=settings.state_dir, wanted_accelerator=settings.accelerator)


def make_others(settings: Settings) -> tuple[Hypervisor, ...]:
    from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor

    return (CloudHypervisor(state_dir=settings.state_dir, wanted_accelerator=settings.accelerator),)


def main() -> None:
    # volar becomes this program for its commands setup and doctor, which are to go by the name that people typed.
    through_volar = sys.argv[1:2] == [FROM_VOLAR]
    try:
        main_group(
            sys.argv[1 + through_volar :],
            prog_name="volar" if through_volar else "volantd",
            standalone_mode=False,
        )
    except VolantError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # A state folder that is read-only, full or half somebody else's: people can mend that without a traceback.
        place = f" {error.filename}" if error.filename else ""
        print(f"error: cannot use{place or ' this host'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(VolantError.exit_code)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(Interrupted.exit_code)
