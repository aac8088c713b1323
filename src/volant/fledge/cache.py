# SPDX-License-Identifier: Apache-2.0
"""Plugins that were built before, by what they were made from: nothing is converted twice.

An entry is a hard link to the plugin that was written (or a copy, across file systems), so keeping it costs
no time and, while the user keeps theirs, no space. A link also sees what is done to the file in place,
therefore an entry is only good while its size and time are those that were noted; what is handed out is
always a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_BYTES = 8 << 30
_COPY_BYTES = 1 << 30
# Counts up when the same inputs give other bytes: a changed file system layout, a changed manifest.
CONVERTER_REVISION = 3


def find_cache_folder() -> Path:
    """`$VOLANT_HOME/cache/fledge` where that is set, else `$XDG_CACHE_HOME/volant/fledge`, else below ~/.cache."""
    home = os.environ.get("VOLANT_HOME")
    if home:
        return Path(home) / "cache" / "fledge"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "volant" / "fledge"


@dataclass(frozen=True)
class CacheEntry:
    key: str
    plugin: str
    size_bytes: int
    used_at: float
    path: Path


def make_key(inputs: Mapping[str, Any]) -> str:
    """Digest of all that decides a plugin's bytes, as JSON."""
    from volant import __version__

    whole = {"converter": CONVERTER_REVISION, "volant": __version__, **inputs}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


class PluginCache:
    """The entries of one folder. Everything here may fail without a build failing: a cache is not needed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or find_cache_folder()) / "plugins"

    def fetch(self, key: str, descriptor: int) -> bool:
        """Copy the plugin of `key` into an empty file; False where that fails, and nothing is in the file then."""
        try:
            with open(self._folder / f"{key}.tar.gz", "rb") as source:
                offset = 0
                while count := os.sendfile(descriptor, source.fileno(), offset, _COPY_BYTES):
                    offset += count
            now = time.time()
            os.utime(self._folder / f"{key}.json", (now, now))
        except OSError:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            return False
        return True

    def store(self, key: str, plugin: Path, facts: Mapping[str, Any]) -> None:
        """Keep a plugin that was just written under its final name."""
        entry = self._folder / f"{key}.tar.gz"
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._drop(key)
            try:
                os.link(plugin, entry)
            except OSError:
                shutil.copyfile(plugin, entry)
            status = entry.stat()
            note = {**facts, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            (self._folder / f"{key}.json").write_text(json.dumps(note))
            self.prune(keep_bytes=LIMIT_BYTES)

    def read(self, key: str) -> dict[str, Any] | None:
        """The notes of an entry that is still as it was written: name, version, size_bytes."""
        try:
            note: dict[str, Any] = json.loads((self._folder / f"{key}.json").read_text())
            status = (self._folder / f"{key}.tar.gz").stat()
        except (OSError, ValueError):
            return None
        if (status.st_size, status.st_mtime_ns) != (note.get("size_bytes"), note.get("mtime_ns")):
            self._drop(key)
            return None
        return note

    def entries(self) -> list[CacheEntry]:
        """What is kept, the most recently used first."""
        found: list[CacheEntry] = []
        for path in self._folder.glob("*.json"):
            note = self.read(path.stem)
            if note is not None:
                plugin = f"{note.get('name', '?')} {note.get('version', '?')}"
                found.append(CacheEntry(path.stem, plugin, note["size_bytes"], path.stat().st_mtime, path))
        return sorted(found, key=lambda entry: entry.used_at, reverse=True)

    def prune(self, *, keep_bytes: int = 0) -> tuple[int, int]:
        """Drop the least recently used until `keep_bytes` remain; returns how many went and their bytes."""
        kept = dropped = freed = 0
        for entry in self.entries():
            if kept + entry.size_bytes <= keep_bytes:
                kept += entry.size_bytes
                continue
            self._drop(entry.key)
            dropped += 1
            freed += entry.size_bytes
        return dropped, freed

    def _drop(self, key: str) -> None:
        for suffix in (".json", ".tar.gz"):
            with suppress(OSError):
                (self._folder / f"{key}{suffix}").unlink(missing_ok=True)
