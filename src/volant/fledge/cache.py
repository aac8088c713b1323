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
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volant.errors import VolantError
from volant.fledge.known_digests import find_cache_folder
from volant.fledge.reuse import EarlierDisk, open_earlier
from volant.fledge.stored_gzip import START_SUM, Summed, add_to_sum, sum_blocks
from volant.whole_file import write_whole_file

LIMIT_BYTES = 8 << 30
_COPY_BYTES = 1 << 30
_READ_BYTES = 1 << 20
# Counts up when the same inputs give other bytes: a changed file system layout, a changed manifest.
CONVERTER_REVISION = 8
# How many earlier plugins a build looks into for windows that it would make again.
MOST_EARLIER = 3
_ORPHAN_SECONDS = 3600


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


def _sum_range(descriptor: int, start: int, end: int) -> int:
    total = START_SUM
    buffer = memoryview(bytearray(min(_READ_BYTES, max(0, end - start))))
    while start < end:
        count = os.preadv(descriptor, [buffer[: end - start]], start)
        if not count:
            raise ValueError("it is shorter than it was")
        total = add_to_sum(total, buffer[:count])
        start += count
    return total


def _sum_all(path: Path, size: int, summed: Summed | None) -> list[Summed]:
    """Sums of three stretches that follow each other and are the whole file; the second's are blocks."""
    start, end, total = summed or (0, 0, START_SUM)
    with path.open("rb") as file:
        before = (0, start, _sum_range(file.fileno(), 0, start))
        return [before, (start, end, total), (end, size, _sum_range(file.fileno(), end, size))]


def _are_right(descriptor: int, size: int, sums: list[Summed]) -> bool:
    position = 0
    for sum_up, (start, end, total) in zip((_sum_range, sum_blocks, _sum_range), sums, strict=True):
        if start != position or end < start or sum_up(descriptor, start, end) != total:
            return False
        position = end
    return position == size


class PluginCache:
    """The entries of one folder. Everything here may fail without a build failing: a cache is not needed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or find_cache_folder()) / "plugins"

    def fetch(self, key: str, descriptor: int) -> bool:
        """Copy the plugin of `key` into an empty file; False where that fails or it is no longer what was stored."""
        note = self.read(key)
        try:
            with open(self._folder / f"{key}.tar.gz", "rb") as source:
                offset = 0
                while count := os.sendfile(descriptor, source.fileno(), offset, _COPY_BYTES):
                    offset += count
            now = time.time()
            os.utime(self._folder / f"{key}.json", (now, now))
            is_whole = note is not None and _are_right(descriptor, offset, note["sums"])
        except (OSError, TypeError, ValueError, KeyError):
            is_whole = False
        if not is_whole:
            self._drop(key)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
        return is_whole

    def store(
        self,
        key: str,
        plugin: Path,
        facts: Mapping[str, Any],
        windows: bytes = b"",
        summed: Summed | None = None,
    ) -> None:
        """Keep a plugin that was just written under its final name, and the index of its windows.

        `summed` is a stretch of it whose sum is known; the rest is read.
        """
        entry = self._folder / f"{key}.tar.gz"
        with suppress(OSError, VolantError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._drop(key)
            try:
                os.link(plugin, entry)
            except OSError:
                shutil.copyfile(plugin, entry)
            if windows:
                write_whole_file(self._folder / f"{key}.windows", windows, is_durable=False)
            status = entry.stat()
            sums = _sum_all(entry, status.st_size, summed)
            note = {**facts, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sums": sums}
            # The last: what has no note is no entry.
            write_whole_file(self._folder / f"{key}.json", json.dumps(note).encode(), is_durable=False)
            self.prune(keep_bytes=LIMIT_BYTES)

    def open_earlier(self, name: str, stack: ExitStack) -> list[EarlierDisk]:
        """Plugins whose disks may share windows with the next one of that name; closed by the stack."""
        found: list[EarlierDisk] = []
        entries = sorted(self.entries(), key=lambda entry: entry.plugin.split(" ")[0] != name)
        for entry in entries[:MOST_EARLIER]:
            plugin, index = (self._folder / f"{entry.key}{suffix}" for suffix in (".tar.gz", ".windows"))
            opened = open_earlier(plugin, index)
            if opened is not None:
                stack.callback(os.close, opened[0])
                found.append(opened[1])
        return found

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
        self._sweep()
        return dropped, freed

    def _sweep(self) -> None:
        """Remove what a build that was killed while it stored its plugin left without a note."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                key, _, suffix = path.name.partition(".")
                is_orphan = suffix in ("tar.gz", "windows") and not (self._folder / f"{key}.json").exists()
                with suppress(OSError):
                    if is_orphan and time.time() - path.stat().st_ctime > _ORPHAN_SECONDS:
                        path.unlink()

    def _drop(self, key: str) -> None:
        for suffix in (".json", ".windows", ".tar.gz"):
            with suppress(OSError):
                (self._folder / f"{key}{suffix}").unlink(missing_ok=True)
