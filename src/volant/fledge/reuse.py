# SPDX-License-Identifier: Apache-2.0
"""Windows of disks that were written before, taken over where a new disk has the same window.

A window's key is made of everything that decides its bytes: how it is compressed, which stretch of which layer lies
where in it (a layer is known by the digest that is checked before anything is published), and all bytes that come from
elsewhere. Its place on the disk is no part of it. A plugin is kept with an index of its windows; what the index says
is believed only as far as the bytes that it leads to agree with it, so an index or a plugin that was damaged costs time
and changes nothing.

A layer that changed has no window of before. Where its clusters lie where they lay and inflate to the same bytes, they
are taken over all the same (qcow2.py): inflating takes a quarter of the time.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from volant.filesystems.blocks import Origin
from volant.fledge.clusters import WINDOW_BYTES, Window
from volant.fledge.known_digests import seal, unseal
from volant.fledge.stored_gzip import START_SUM, StoredContent, add_to_sum

_KEY_BYTES = 16
_NO_ORIGIN = -1


class WindowRecord(NamedTuple):
    """The clusters of a window as they lie in a disk, from byte `offset` of it on.

    `numbers` count from the window's start. `check` is that of `check_clusters`.
    """

    offset: int
    check: int
    numbers: tuple[int, ...]
    sizes: tuple[int, ...]


class Clusters(NamedTuple):
    """Clusters of a window: their numbers from its start, ascending, their sizes, and their bytes one after the other.

    `parts` are the clusters, or cut anywhere where none of them is plain.
    """

    numbers: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    parts: Sequence[bytes | memoryview] = ()

    def split(self) -> Iterable[tuple[int, bytes | memoryview]]:
        """Each cluster's number and bytes."""
        if tuple(map(len, self.parts)) == self.sizes:
            return zip(self.numbers, self.parts, strict=True)
        whole = memoryview(b"".join(self.parts))
        ends = list(accumulate(self.sizes))
        return (
            (number, whole[end - size : end])
            for number, size, end in zip(self.numbers, self.sizes, ends, strict=True)
        )


def check_clusters(key: bytes, clusters: Clusters) -> int:
    """A sum over what a record says and what lies there.

    It is a guard against damage. Who can forge it can write into the cache, and may as well replace a whole plugin.
    """
    numbers, sizes, parts = clusters
    said = struct.pack(f"<{2 * len(numbers)}I", *numbers, *sizes)
    total = add_to_sum(START_SUM, key + said)
    for data in parts:
        total = add_to_sum(total, data)
    return total


class WindowKeys:
    """Makes the keys of one disk's windows. `recipe` names compressor, version and level."""

    def __init__(self, recipe: str, origins: Sequence[Origin]) -> None:
        self._start = hashlib.sha256(recipe.encode())
        self._origins = sorted(origins)
        self._starts = [(origin.descriptor, origin.offset) for origin in self._origins]

    def make_key(self, window: Window) -> bytes:
        digest = self._start.copy()
        numbers = array("q")
        named: dict[int, int] = {}
        origin, index = Origin(-1, 0, 0, ""), _NO_ORIGIN
        foreign: list[bytes | bytearray | memoryview] = []
        for start, length, data, descriptor, offset in window.parts:
            if data is not None:
                foreign.append(data)
                numbers.extend((start, length, _NO_ORIGIN, 0))
                continue
            if descriptor != origin.descriptor or not 0 <= offset - origin.offset <= origin.length - length:
                origin, index = self._find(descriptor, offset, length, named)
            if index == _NO_ORIGIN:
                foreign.append(_read_all(descriptor, offset, length))
                numbers.extend((start, length, _NO_ORIGIN, 0))
            else:
                numbers.extend((start, length, index, offset - origin.offset))
        digest.update(struct.pack("<II", len(named), len(window.parts)))
        for position in named:
            digest.update(self._origins[position].digest.encode() + b"\0")
        digest.update(numbers)
        for data in foreign:
            digest.update(data)
        return digest.digest()[:_KEY_BYTES]

    def _find(self, descriptor: int, offset: int, length: int, named: dict[int, int]) -> tuple[Origin, int]:
        """The origin of a stretch, and its number among those that the window names; none where it has none."""
        position = bisect_right(self._starts, (descriptor, offset)) - 1
        if position >= 0:
            origin = self._origins[position]
            if descriptor == origin.descriptor and offset + length <= origin.offset + origin.length:
                return origin, named.setdefault(position, len(named))
        return Origin(-1, 0, 0, ""), _NO_ORIGIN


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    content = os.pread(descriptor, length, offset)
    while len(content) < length:
        more = os.pread(descriptor, length - len(content), offset + len(content))
        if not more:
            # The compression that follows meets the same end, and says so.
            return content
        content += more
    return content


class CheckedWindow(NamedTuple):
    """Clusters of a window and their check."""

    clusters: Clusters
    check: int


class WindowIndex:
    """The windows of a disk that is being written.

    `payload_offset`: where the disk begins in its archive; `recipe`: how it is compressed; `places`: the key of what
    lies at an offset of the disk.
    """

    def __init__(self) -> None:
        self.recipe = ""
        self.payload_offset = 0
        self.records: dict[bytes, WindowRecord] = {}
        self.places: dict[int, bytes] = {}

    def add(self, place: int, key: bytes, offset: int, window: CheckedWindow) -> None:
        numbers, sizes, _ = window.clusters
        self.records[key] = WindowRecord(offset, window.check, numbers, sizes)
        self.places[place] = key

    def encode(self) -> bytes:
        rows = [[key.hex(), *record] for key, record in self.records.items()]
        places = [[place, key.hex()] for place, key in self.places.items()]
        head = {"recipe": self.recipe, "payload_offset": self.payload_offset}
        return seal(json.dumps({**head, "windows": rows, "places": places}).encode())


def decode_index(sealed: bytes) -> WindowIndex:
    """Raises ValueError, TypeError or KeyError for what is no index, or not as it was written."""
    document = json.loads(unseal(sealed))
    index = WindowIndex()
    index.recipe = str(document["recipe"])
    index.payload_offset = int(document["payload_offset"])
    for key, offset, check, numbers, sizes in document["windows"]:
        record = WindowRecord(int(offset), int(check), tuple(map(int, numbers)), tuple(map(int, sizes)))
        index.records[bytes.fromhex(key)] = record
    for place, key in document["places"]:
        index.places[int(place)] = bytes.fromhex(key)
    return index


class EarlierDisk:
    """An open plugin and its index."""

    def __init__(self, descriptor: int, index: WindowIndex) -> None:
        self._content = StoredContent(descriptor)
        self._index = index

    def find_at(self, place: int, recipe: str) -> bytes:
        """The key of the window at an offset of the disk; empty where there is none that was compressed so."""
        return self._index.places.get(place, b"") if recipe == self._index.recipe else b""

    def fetch(self, key: bytes, cluster_size: int) -> CheckedWindow | None:
        """The clusters of a window, checked; None where there is no such window, or what is there is not it."""
        record = self._index.records.get(key)
        if record is None or not _is_possible(record, cluster_size):
            return None
        numbers, sizes = record.numbers, record.sizes
        places = list(place_clusters(record.offset, sizes, cluster_size))
        start, length = places[0], places[-1] + sizes[-1] - places[0]
        try:
            parts = self._content.read(self._index.payload_offset + start, length)
        except (OSError, OverflowError):
            return None
        if parts and cluster_size in sizes:
            content = memoryview(b"".join(parts))
            parts = [
                content[place - start : place - start + size]
                for place, size in zip(places, sizes, strict=True)
            ]
        clusters = Clusters(numbers, sizes, parts)
        check = check_clusters(key, clusters)
        return CheckedWindow(clusters, check) if check == record.check else None


def _is_possible(record: WindowRecord, cluster_size: int) -> bool:
    """Whether a record may be followed at all; what it leads to is checked then."""
    most = WINDOW_BYTES // cluster_size
    return (
        0 < len(record.numbers) == len(record.sizes) <= most
        and record.offset >= 0
        and all(0 <= number < most for number in record.numbers)
        and all(0 < size <= cluster_size for size in record.sizes)
    )


def place_clusters(position: int, sizes: Iterable[int], cluster_size: int) -> Iterable[int]:
    """Where clusters lie that are written from `position` on: plain ones aligned, compressed ones packed."""
    for size in sizes:
        if size == cluster_size:
            position += -position % cluster_size
        yield position
        position += size


class Reuse:
    """What a build may take from earlier disks, and what it notes for later ones."""

    def __init__(self, earlier: Sequence[EarlierDisk] = ()) -> None:
        self._earlier = earlier
        self.index = WindowIndex()

    def fetch(self, key: bytes, cluster_size: int) -> CheckedWindow | None:
        for disk in self._earlier:
            found = disk.fetch(key, cluster_size)
            if found is not None:
                return found
        return None

    def fetch_at(self, place: int, cluster_size: int) -> Clusters:
        """What lay at the same offset of the disk before, which is not what lies there now, or not all of it."""
        for disk in self._earlier[:1]:
            key = disk.find_at(place, self.index.recipe)
            found = disk.fetch(key, cluster_size) if key else None
            if found is not None:
                return found.clusters
        return Clusters()


def open_earlier(plugin: Path, index: Path) -> tuple[int, EarlierDisk] | None:
    """An earlier plugin with its index, and the descriptor that the caller closes; None where one is no use."""
    try:
        decoded = decode_index(index.read_bytes())
        descriptor = os.open(plugin, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return descriptor, EarlierDisk(descriptor, decoded)
