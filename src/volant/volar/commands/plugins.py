# SPDX-License-Identifier: Apache-2.0
"""volar plugins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from volant.plugin_sources.upload import upload_plugin
from volant.volar.client import Client, quoted
from volant.volar.docker_words import PLUGIN_ALIASES, PLUGIN_ANSWERS
from volant.volar.groups import Commands
from volant.volar.names import PLUGIN
from volant.volar.output import (
    Format,
    format_size,
    make_name,
    output_option,
    show_document,
    show_object,
    show_rows,
)
from volant.volar.tables import format_age
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin

SIGN_BY = "Private key to sign it with, as cosign does."
COLUMNS = {
    "NAME": lambda plugin: plugin["name"],
    "VERSION": lambda plugin: plugin["version"],
    "KIND": lambda plugin: plugin["kind"],
    "SIZE": lambda plugin: format_size(plugin["size_bytes"]),
    "VMS": lambda plugin: plugin["vms"],
    "ENABLED": lambda plugin: plugin["enabled"],
    "INSTALLED": lambda plugin: format_age(plugin["installed_at"]),
}
WIDE = {
    "BOOT": lambda plugin: plugin["boot"],
    "CHECKSUM": lambda plugin: plugin["checksum"],
    "DESCRIPTION": lambda plugin: plugin["description"],
}


@click.group(cls=Commands, aliases=PLUGIN_ALIASES, answers=PLUGIN_ANSWERS)
def plugins() -> None:
    """Install, list and remove plugins."""


@plugins.command()
@click.argument("source")
@output_option
@click.pass_context
def install(context: click.Context, source: str, output_format: Format) -> None:
    """Install a plugin from a file, an http(s) address or a registry.

    \b
    volar plugins install ./nginx.tar.gz
    volar plugins install https://example.com/nginx.tar.gz
    volar plugins install registry.example.com/team/nginx:1.27
    """
    from volant.registries.references import is_reference

    client = make_client(context)
    if not Path(source).exists() and is_reference(source):
        plugin = pull(client, source)
    elif source.startswith(("http://", "https://")):
        plugin = client.post("/plugins", {"url": source}, timeout_seconds=None)
    else:
        plugin = upload_plugin(client, Path(source))
    tell_installed(plugin, output_format)


def tell_installed(plugin: Plugin, output_format: Format) -> None:
    if output_format == "table":
        size = format_size(plugin["size_bytes"])
        click.echo(f"installed {plugin['name']} {plugin['version']} ({size}, {plugin['checksum'][:19]}…)")
    else:
        show_rows([plugin], output_format, kind="plugin", columns=COLUMNS, wide=WIDE)


@plugins.command("pull")
@click.argument("reference")
@output_option
@click.pass_context
def pull_command(context: click.Context, reference: str, output_format: Format) -> None:
    """Pull a plugin from a registry and install it. An interrupted download is resumed.

    Logins are those of skopeo, podman and docker.

    \b
    volar plugins pull registry.example.com/team/nginx:1.27
    """
    tell_installed(pull(make_client(context), reference), output_format)


@plugins.command()
@click.argument("source", metavar="PLUGIN|FILE")
@click.argument("reference")
@click.option("--sign-by", type=click.Path(dir_okay=False, path_type=Path), metavar="KEY", help=SIGN_BY)
@click.pass_context
def push(context: click.Context, source: str, reference: str, sign_by: Path | None) -> None:
    """Push a plugin, installed or in a file, to a registry. What is already there is not sent again.

    A key is one of cosign's (its password comes from COSIGN_PASSWORD or is asked for), or any of ECDSA on P-256 in PEM;
    cosign verify --key finds the signature.

    \b
    volar plugins push nginx:1.27.0 registry.example.com/team/nginx:1.27
    volar plugins push ./nginx.tar.gz registry.example.com/team/nginx:1.27 --sign-by cosign.key
    """
    from volant.plugin_sources.transfer import push_file, push_installed
    from volant.signing_key import open_signing_key

    key = open_signing_key(sign_by)
    path = Path(source)
    digest = (
        push_file(path, reference, key)
        if path.is_file()
        else push_installed(make_client(context), source, reference, key)
    )
    click.echo(f"{'pushed' if key is None else 'pushed and signed'} {reference} ({digest})")


def pull(client: Client, reference: str) -> Plugin:
    from volant.plugin_sources.transfer import pull_and_install

    return pull_and_install(client, reference)


@plugins.command("list")
@click.option("-q", "--quiet", is_flag=True, help="Print NAME:VERSION only.")
@click.option("-a", "--all", "everything", is_flag=True, hidden=True)  # disabled ones are shown anyway
@output_option
@click.pass_context
def list_plugins(context: click.Context, quiet: bool, everything: bool, output_format: Format) -> None:
    """List the installed plugins."""
    found = make_client(context).list_plugins()
    if quiet:
        for plugin in found:
            click.echo(make_name(plugin))
    else:
        show_rows(found, output_format, kind="plugin", columns=COLUMNS, wide=WIDE)


@plugins.command()
@click.argument("name", type=PLUGIN)
@output_option
@click.pass_context
def show(context: click.Context, name: str, output_format: Format) -> None:
    """Show one plugin. NAME or NAME:VERSION."""
    plugin = make_client(context).get_plugin(name)
    show_object(plugin, output_format, lambda: describe(plugin))


def describe(plugin: Plugin) -> list[tuple[str, Any]]:
    """A plugin as facts for people."""
    manifest = plugin["manifest"]
    return [
        ("name", plugin["name"]),
        ("version", plugin["version"]),
        ("description", plugin["description"]),
        ("kind", plugin["kind"]),
        ("boot", plugin["boot"]),
        ("size", format_size(plugin["size_bytes"])),
        (
            "virtual size",
            format_size(plugin["virtual_size_bytes"]) if plugin["virtual_size_bytes"] else None,
        ),
        ("checksum", plugin["checksum"]),
        ("enabled", plugin["enabled"]),
        ("vms", plugin["vms"]),
        ("workload", f"{manifest['workload']['type']}, port {manifest['workload']['port'] or 'none'}"),
        ("resources", f"{manifest['resources']['vcpu']} vCPU, {manifest['resources']['memory_mb']} MiB"),
        ("installed", plugin["installed_at"]),
    ]


@plugins.command()
@click.argument("name", type=PLUGIN)
@click.pass_context
def inspect(context: click.Context, name: str) -> None:
    """Print a plugin's whole manifest as JSON."""
    show_document(make_client(context).get_plugin(name)["manifest"], "json")


@plugins.command()
@click.argument("name", type=PLUGIN)
@click.pass_context
def enable(context: click.Context, name: str) -> None:
    """Allow new VMs of a plugin again."""
    _switch(context, name, "enable")


@plugins.command()
@click.argument("name", type=PLUGIN)
@click.pass_context
def disable(context: click.Context, name: str) -> None:
    """Refuse new VMs of a plugin; existing ones are kept."""
    _switch(context, name, "disable")


def _switch(context: click.Context, name: str, verb: str) -> None:
    plain, _, version = name.partition(":")
    make_client(context).post(f"/plugins/{quoted(plain)}/{verb}", query={"version": version})
    click.echo(f"{verb}d {name}")


@plugins.command()
@click.argument("names", nargs=-1, required=True, type=PLUGIN)
@click.pass_context
def remove(context: click.Context, names: tuple[str, ...]) -> None:
    """Remove plugins that no VM uses. NAME (all versions) or NAME:VERSION."""
    client = make_client(context)
    for name in names:
        plain, _, version = name.partition(":")
        client.delete(f"/plugins/{quoted(plain)}", version=version)
        click.echo(f"removed {name}")
