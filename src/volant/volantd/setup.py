# SPDX-License-Identifier: Apache-2.0
"""volar setup: what this host needs once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from volant.contract.paths import make_state_folder
from volant.errors import Conflict, NotPermitted
from volant.process import run_tool
from volant.progress import make_monitor
from volant.volantd.boot.kernel import PACKAGES, find_kernel, host_architecture, install_kernel
from volant.volantd.network.bridge import (
    BRIDGE,
    GATEWAY,
    SUBNET,
    describe_bridge,
    install_bridge,
    list_taps,
    remove_bridge,
)
from volant.volantd.settings import Settings

UNIT = Path("/etc/systemd/system/volantd.service")
# The folder that sd_booted(3) looks for.
SYSTEMD = Path("/run/systemd/system")


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
    make_state_folder(settings.state_dir)
    with make_monitor() as monitor:
        install_kernel(architecture, kernels, monitor)


def setup_network(settings: Settings, *, dry_run: bool) -> None:
    """Make the bridge with NAT; the daemon makes it again after each reboot of the host."""
    if dry_run:
        for command in describe_bridge():
            click.echo(command)
        return
    install_bridge()
    make_state_folder(settings.state_dir)
    settings.bridge_mark.touch(mode=0o600)
    click.echo(f"bridge {BRIDGE} is ready: {SUBNET}, gateway {GATEWAY}; new VMs are bridged from now on")


def remove_network(settings: Settings, *, dry_run: bool) -> None:
    """Take bridge and NAT away again. Conflict while VMs are on it. IP forwarding stays: others may rely on it."""
    taps = list_taps()
    if taps:
        raise Conflict(
            f"cannot remove the bridge {BRIDGE}: {len(taps)} VMs are on it",
            details=taps,
            resolution="volar vms stop them, or delete them",
        )
    if dry_run:
        click.echo(f"ip link delete {BRIDGE}\nnft delete table ip volant")
        return
    # Without the mark the daemon does not make it again, wherever this ends.
    settings.bridge_mark.unlink(missing_ok=True)
    remove_bridge()
    click.echo(f"bridge {BRIDGE} is gone; new VMs are in user mode from now on")


def make_unit(program: str) -> str:
    """The system's own daemon as a systemd service. Guests are processes of their own and outlive a restart of it."""
    return f"""\
[Unit]
Description=Volant's daemon: virtual machines of plugins
After=network-online.target
Wants=network-online.target

[Service]
ExecStart={program} serve --listen 127.0.0.1:7777
KillMode=process
Restart=on-failure
RuntimeDirectory=volant
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
StateDirectory=volant
StateDirectoryMode=0700

[Install]
WantedBy=multi-user.target
"""


def setup_service(*, dry_run: bool) -> None:
    """Install and start the system's daemon where systemd runs the host."""
    program = Path(sys.argv[0]).resolve()
    if dry_run:
        click.echo(f"cat > {UNIT} <<END\n{make_unit(str(program))}END")
        click.echo(f"systemctl enable --now {UNIT.name}")
        return
    if not SYSTEMD.is_dir():
        click.echo("systemd does not run this host: volar starts the daemon when it is needed")
        return
    try:
        UNIT.write_text(make_unit(str(program)))
        UNIT.chmod(0o644)
    except OSError as error:
        raise NotPermitted(
            f"cannot write {UNIT}: {error.strerror}", resolution="run it as root: sudo volar setup service"
        ) from error
    run_tool(["systemctl", "daemon-reload"], what="read the new unit")
    run_tool(["systemctl", "enable", "--now", UNIT.name], what=f"start {UNIT.name}")
    click.echo(f"{UNIT.name} runs and will after each boot")


def setup_all(settings: Settings, *, dry_run: bool) -> None:
    """Everything that this user may do; what needs root is said."""
    setup_kernel(settings, dry_run=dry_run)
    if os.geteuid() != 0 and not dry_run:
        click.echo("bridge and service need root: sudo volar setup (VMs use user mode until then)")
        return
    setup_network(settings, dry_run=dry_run)
    setup_service(dry_run=dry_run)
