# SPDX-License-Identifier: Apache-2.0
"""Plugins between this user's daemon and a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from volant.client.client import Client, quoted
from volant.contract.plugin_evidence import write_line
from volant.errors import NotFound
from volant.plugin_registry import PulledPlugin, pull_plugin, push_plugin
from volant.registries.references import find_repository
from volant.registries.signatures import Signatures, fetch_signatures

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin
    from volant.signatures.keys import PrivateKey


def push_file(path: Path, reference: str, sign_by: PrivateKey | None) -> str:
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
            sign_by=sign_by,
        )


def push_installed(client: Client, source: str, reference: str, sign_by: PrivateKey | None) -> str:
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
            sign_by=sign_by,
        )


def pull_and_install(client: Client, reference: str) -> Plugin:
    """The daemon judges; signatures are only fetched for one that has a policy."""
    has_policy = _has_policy(client)
    with pull_plugin(reference) as pulled:
        found = fetch_signatures(find_repository(pulled.place), pulled.digest) if has_policy else Signatures()
        return client.upload_plugin(pulled.read(), pulled.size_bytes, _write_evidence(pulled, found))


def _has_policy(client: Client) -> bool:
    try:
        return bool(client.get("/system/policy"))
    except NotFound:  # an older daemon
        return False


def _write_evidence(pulled: PulledPlugin, found: Signatures) -> bytes:
    return write_line(pulled.place, pulled.manifest, found.documents, found.bundles)
