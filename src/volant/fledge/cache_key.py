# SPDX-License-Identifier: Apache-2.0
"""What decides a plugin's bytes: the key under which it is kept."""

from __future__ import annotations

from volant.fledge.cache import make_key
from volant.fledge.epoch import read_epoch
from volant.fledge.guest import digest_agents
from volant.fledge.known_digests import KnownDigests
from volant.fledge.local_files import digest_local
from volant.fledge.order import ArchiveSource, BuildOrder, ScriptSource


def make_cache_key(order: BuildOrder, identity: str, known: KnownDigests | None) -> str:
    """Digest of all inputs; empty where they cannot be known without running something, or nobody asks."""
    if isinstance(order.source, ScriptSource) or not order.use_cache:
        return ""
    return make_key(
        {
            "image": identity,
            "plugin": [order.kind, order.name, order.version, order.description, order.want_port_from_image],
            "runtime": order.runtime.model_dump(mode="json", exclude_unset=True) if order.runtime else {},
            "disk": [order.format, order.compression, order.disk_size_bytes],
            "file": order.source.path.name if isinstance(order.source, ArchiveSource) else "",
            "mappings": [[guest, local.is_dir(), digest_local(local)] for local, guest in order.mappings],
            "agents": digest_agents(known),
            "epoch": read_epoch(),
        }
    )
