# SPDX-License-Identifier: Apache-2.0
"""volar setup: what this host needs once."""

from __future__ import annotations

import click

from volant.progress import make_monitor
from volant.volantd.boot.kernel import PACKAGES, find_kernel, host_architecture, install_kernel
from volant.volantd.network.bridge import BRIDGE, GATEWAY, SUBNET, describe_bridge, install_bridge
from volant.volantd.settings import Settings


def setup_kernel(settings: Settings, *, dry_run: bool) -> None:
    """Fetch the guests' kernel into the state folder. It is never installed on the host."""
    architecture = host_architecture()
    kernels = settings.cache_dir / "kernels"
    present = find_kernel(architecture, kernels, settings.kernel)
    if present is not None:
        click.echo(f"kernel {present.version} is there: {present.image}")
        return
    if dry_run:
        click.echo(
            f"apt-get download {PACKAGES[architecture]}   # and unpack it to {kernels}, not install it"
        )
        return
    kernels.mkdir(parents=True, exist_ok=True, mode=0o700)
    with make_monitor() as monitor:
        install_kernel(architecture, kernels, monitor)


def setup_network(settings: Settings, *, dry_run: bool) -> None:
    """Make the bridge with NAT; the daemon makes it again after each reboot of the host."""
    if dry_run:
        for command in describe_bridge():
            click.echo(command)
        return
    install_bridge()
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.bridge_mark.touch(mode=0o600)
    click.echo(f"bridge {BRIDGE} is ready: {SUBNET}, gateway {GATEWAY}; new VMs are bridged from now on")
