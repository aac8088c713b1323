# SPDX-License-Identifier: Apache-2.0
"""volar setup: what this host needs once."""

from __future__ import annotations

import os
import shutil

import click

from volant.contract.agents import Architecture
from volant.contract.paths import make_state_folder
from volant.errors import Conflict
from volant.progress import make_monitor
from volant.volantd.boot.kernel import PACKAGES, find_kernel, host_architecture, install_kernel
from volant.volantd.network.bridge import (
    BRIDGE,
    GATEWAY,
    SUBNET,
    describe_bridge,
    install_bridge,
    is_bridge_installed,
    list_taps,
    remove_bridge,
)
from volant.volantd.network.host_firewall import list_obstacles
from volant.volantd.service import check_service, remove_service, setup_service
from volant.volantd.settings import Settings


def setup_kernel(settings: Settings, architecture: Architecture | None = None, *, dry_run: bool) -> None:
    """Fetch the guests' kernel into the state folder. It is never installed on the host."""
    architecture = architecture or host_architecture()
    kernels = settings.kernels_dir
    explicit = settings.kernel if architecture == host_architecture() else None
    present = find_kernel(architecture, kernels, explicit)
    if present is not None:
        click.echo(f"kernel {present.version} is there: {present.image}")
        return
    if dry_run:
        click.echo(
            f"apt-get download {PACKAGES[architecture]}   # and unpack it to {kernels}, not install it"
        )
        return
    make_state_folder(settings.state_dir)
    with make_monitor() as monitor:
        install_kernel(architecture, kernels, monitor)


def setup_network(settings: Settings, *, dry_run: bool) -> None:
    """Make the bridge with NAT; the daemon makes it again after each reboot of the host."""
    if dry_run:
        for command in describe_bridge():
            click.echo(command)
        return
    install_bridge(is_host_open=settings.host_loopback == "open")
    make_state_folder(settings.state_dir)
    settings.bridge_mark.touch(mode=0o600)
    click.echo(f"bridge {BRIDGE} is ready: {SUBNET}, gateway {GATEWAY}; new VMs are bridged from now on")
    for obstacle in list_obstacles(BRIDGE):
        click.echo(f"but {obstacle.fact}; try: {obstacle.mend}")


def remove_network(settings: Settings, *, dry_run: bool) -> None:
    """Take bridge and NAT away again. Conflict while VMs are on it. IP forwarding stays: others may rely on it."""
    taps = list_taps()
    if taps:
        raise Conflict(
            f"cannot remove the bridge {BRIDGE}: {len(taps)} VMs are on it",
            details=taps,
            resolution="stop or delete them: volar vms stop | delete",
        )
    if dry_run:
        click.echo(f"ip link delete {BRIDGE}\nnft delete table ip volant\nnft delete table netdev volant")
        return
    # Without the mark the daemon does not make it again, wherever this ends.
    settings.bridge_mark.unlink(missing_ok=True)
    remove_bridge()
    click.echo(f"bridge {BRIDGE} is gone; new VMs are in user mode from now on")


def remove_kernel(settings: Settings, *, dry_run: bool) -> None:
    """Remove the kernels that setup fetched; the next start of a VM needs one again."""
    kernels = settings.kernels_dir
    if dry_run:
        click.echo(f"rm -r {kernels}")
        return
    if kernels.is_dir():
        shutil.rmtree(kernels)
        click.echo(f"removed {kernels}")


def setup_all(settings: Settings, *, dry_run: bool) -> None:
    """Everything that this user may do; what needs root is said."""
    if os.geteuid() == 0 and not dry_run:
        check_service(settings)
    setup_kernel(settings, dry_run=dry_run)
    if os.geteuid() != 0 and not dry_run:
        click.echo("a bridge needs root: sudo volar setup (VMs use user mode until then)")
        click.echo(
            "'volar setup service' lets your daemon and VMs outlive log-out and come back after a reboot"
        )
        return
    setup_network(settings, dry_run=dry_run)
    setup_service(settings, dry_run=dry_run)


def remove_all(settings: Settings, *, dry_run: bool) -> None:
    """Undo what setup did. Plugins, VMs and their disks stay; the bridge goes first, as VMs on it forbid all."""
    if settings.bridge_mark.exists() or is_bridge_installed():
        remove_network(settings, dry_run=dry_run)
    remove_service(settings, dry_run=dry_run)
    remove_kernel(settings, dry_run=dry_run)
    click.echo(f"plugins, VMs and their disks stay in {settings.state_dir}")
