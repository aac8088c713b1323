# SPDX-License-Identifier: Apache-2.0
"""volar system and volar version."""

from __future__ import annotations

import click

from volant import __version__
from volant.errors import VolantError
from volant.sizes import show_size
from volant.volar.commands.system_backup import backup, restore
from volant.volar.commands.system_policy import policy
from volant.volar.groups import Commands
from volant.volar.output import Format, output_option, show_object, show_rows
from volant.volar.tables import format_age
from volant.volar.target import make_client

SYSTEM_ANSWERS = {
    "prune": "volar vms delete and volar plugins remove take several names; fledge cache prune empties the build cache",
    "df": "volar plugins list shows sizes of plugins, volar vms stats those of disks",
    "events": "volar events vms",
}


@click.group(cls=Commands, aliases={"status": "info", "show": "info"}, answers=SYSTEM_ANSWERS)
def system() -> None:
    """Inspect the daemon and its host; back up and restore its state; choose which plugins it accepts."""


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


@system.command()
@output_option
@click.pass_context
def kernels(context: click.Context, output_format: Format) -> None:
    """List the kernels that --kernel of vms create and update takes."""
    columns = {
        "NAME": lambda kernel: kernel["name"],
        "ARCHITECTURE": lambda kernel: kernel["architecture"],
        "DEFAULT": lambda kernel: "yes" if kernel["is_default"] else "",
    }
    show_rows(make_client(context).get("/system/kernels"), output_format, kind="kernel", columns=columns)


@system.command()
@click.option(
    "-n", "--tail", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many."
)
@click.option(
    "--of", "target", metavar="NAME", help="Only changes of the VM, plugin, secret, … of this name."
)
@output_option
@click.pass_context
def audit(context: click.Context, tail: int, target: str | None, output_format: Format) -> None:
    """Show who changed what, oldest first: each request to the daemon, and how it ended."""
    found = make_client(context).get("/system/audit", limit=tail, target=target)
    entries = (
        [{**entry, "name": entry["request_id"]} for entry in found] if output_format == "name" else found
    )
    columns = {
        "TIME": lambda entry: entry["time"],
        "WHO": lambda entry: entry["who"],
        "ACTION": lambda entry: entry["action"],
        "TARGET": lambda entry: entry["target"],
        "RESULT": lambda entry: entry["error"] or entry["status"] or "not known",
    }
    wide = {"REQUEST": lambda entry: entry["request_id"], "MS": lambda entry: entry["milliseconds"]}
    show_rows(entries, output_format, kind="change", columns=columns, wide=wide)


@system.group(cls=Commands, aliases={"ls": "list", "prune": "clear", "rm": "clear"})
def warm() -> None:
    """Manage templates: the memory of booted guests, from which VMs wake instead of booting."""


@warm.command("list")
@output_option
@click.pass_context
def list_templates(context: click.Context, output_format: Format) -> None:
    """List the templates, the last used first."""
    columns = {
        "KEY": lambda template: template["key"][:12],
        "WORKLOAD": lambda template: template["plugin"] or "-",
        "VCPU": lambda template: template["vcpu"],
        "MEMORY": lambda template: f"{template['memory_mb']} MiB",
        "ACCELERATOR": lambda template: template["accelerator"],
        "KERNEL": lambda template: template["kernel"],
        "SIZE": lambda template: show_size(template["size_bytes"]),
        "AGE": lambda template: format_age(template["created_at"]),
    }
    show_rows(make_client(context).get("/templates"), output_format, kind="template", columns=columns)


@warm.command()
@click.pass_context
def clear(context: click.Context) -> None:
    """Remove all templates. VMs keep running; the next VM of each shape boots, and gets a new template."""
    make_client(context).delete("/templates")
    click.echo("removed all templates")


def _plain(value: object) -> object:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else value


system.add_command(backup)
system.add_command(policy)
system.add_command(restore)


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
