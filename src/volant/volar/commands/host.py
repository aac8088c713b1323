# SPDX-License-Identifier: Apache-2.0
"""volar setup and volar doctor: both look at this very host, so volantd itself does them, in this terminal."""

from __future__ import annotations

import click

from volant.process import become_program
from volant.volar.daemon_start import find_daemon_program

FROM_VOLAR = "--from-volar"  # what it takes to be called volar in its own help
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def setup(arguments: tuple[str, ...]) -> None:
    """Prepare this host.

    \b
    volar setup --dry-run       what would be done, as commands
    volar setup                 kernel, bridge with NAT, systemd unit (root)
    volar setup kernel          the guests' kernel only (no root)
    volar setup network         the bridge only (root)
    volar setup service         the systemd unit only: the system's (root), or this user's own
    volar setup --remove        undo all of it, or one of them; VMs and their disks stay
    """
    _become_volantd("setup", arguments)


@click.command(context_settings=PASS_ON)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def doctor(arguments: tuple[str, ...]) -> None:
    """Show what this host can and cannot do, and how to fix it."""
    _become_volantd("doctor", arguments)


def _become_volantd(verb: str, arguments: tuple[str, ...]) -> None:
    program = find_daemon_program()
    become_program([*program, FROM_VOLAR, verb, *arguments])
