# SPDX-License-Identifier: Apache-2.0
"""Plugins between this user's daemon and a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volant.plugin_registry import pull_plugin, push_plugin
from volant.volar.client import Client, quoted

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin


def push_file(path: Path, reference: str) -> str:
    """The digest under which the registry has it now."""
    from volant.contract.plugin_archive import read_plugin_archive

    with path.open("rb") as stream:
        manifest = read_plugin_archive(stream).manifest
        stream.seek(0)
        return push_plugin(
            stream,
            reference,
            name=manifest.name,
            version=manifest.version,
            description=manifest.description,
        )


def push_installed(client: Client, source: str, reference: str) -> str:
    plugin = client.get_plugin(source)
    path = f"/plugins/{quoted(plugin['name'])}/archive"
    query = {"version": plugin["version"]}
    with client.open("GET", path, query=query, timeout_seconds=None) as reply:
        return push_plugin(
            reply,
            reference,
            name=plugin["name"],
            version=plugin["version"],
            description=plugin["description"],
        )


def pull_and_install(client: Client, reference: str) -> Plugin:
    with pull_plugin(reference) as pulled:
        plugin: Plugin = client.call(
            "POST", "/plugins", upload=pulled.read(), upload_length=pulled.size_bytes, timeout_seconds=None
        )
    return plugin
