# SPDX-License-Identifier: Apache-2.0
"""volar system and volar version."""

from __future__ import annotations

import click

from volant import __version__
from volant.errors import VolantError
from volant.volar.groups import Commands
from volant.volar.output import Format, output_option, show_object
from volant.volar.target import make_client

SYSTEM_ANSWERS = {
    "prune": "volar vms delete and volar plugins remove take several names; fledge cache prune empties the build cache",
    "df": "volar plugins list shows sizes of plugins, volar vms stats those of disks",
    "events": "volar events vms",
}


@click.group(cls=Commands, aliases={"status": "info", "show": "info"}, answers=SYSTEM_ANSWERS)
def system() -> None:
    """Facts about the daemon and its host."""


@system.command()
@output_option
@click.pass_context
def info(context: click.Context, output_format: Format) -> None:
    """Show hypervisor, accelerator, kernel and network of the daemon."""
    facts = make_client(context).get_system_info()
    show_object(
        facts,
        output_format,
        lambda: [(name.replace("_", " "), _plain(value)) for name, value in facts.items()],
    )


def _plain(value: object) -> object:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else value


@click.command()
@output_option
@click.pass_context
def version(context: click.Context, output_format: Format) -> None:
    """Print the versions of volar and of the daemon (which is not started for it)."""
    try:
        daemon = make_client(context, autostart=False).get_system_info()["version"]
    except VolantError:
        daemon = None
    versions = {"volar": __version__, "volantd": daemon}
    show_object(
        versions, output_format, lambda: [("volar", __version__), ("volantd", daemon or "not running")]
    )
