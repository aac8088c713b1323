# SPDX-License-Identifier: Apache-2.0
"""An installed plugin as an archive again, for another host or a registry: the same bytes whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from volant.tar_entries import END, make_entry, make_header, make_padding
from volant.volantd.plugins.store import StoredPlugin

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PluginExport:
    """`head` is all that comes before the payload. Not compressed: a plugin's disk is."""

    head: bytes
    payload: Path
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        yield self.head
        with self.payload.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
        yield _make_end(self.payload.stat().st_size)


def export_plugin(plugin: StoredPlugin) -> PluginExport:
    """Manifest first, then what it names beside its disk, then that."""
    manifest = plugin.manifest
    place = manifest.rootfs or manifest.initramfs
    assert place is not None, "an installed plugin has something to boot"
    assert place.path is not None, "what is installed lies in the archive"
    small = {"manifest.json": manifest.model_dump_json(exclude_none=True, indent=1).encode()}
    small |= {name: text.encode("utf-8", "surrogateescape") for name, text in sorted(plugin.files.items())}
    head = b"".join(make_entry(name, content, mode=0o644) for name, content in small.items())
    size = plugin.payload.stat().st_size
    head += make_header(place.path, size, mode=0o644)
    return PluginExport(head, plugin.payload, len(head) + size + len(_make_end(size)))


def _make_end(size: int) -> bytes:
    return make_padding(size) + END
