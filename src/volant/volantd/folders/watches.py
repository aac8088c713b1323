# SPDX-License-Identifier: Apache-2.0
"""inotify(7) for the file server: what changed in folders that the guest has listed, but for what it changed itself.

By ctypes, since the server runs with the standard library only. One instance for all folders of a VM; each watched
folder is known by its path below the folder that is shared, which is kept right when it is renamed.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection, Iterator

from volant.volantd.folders.wire import CHANGED, ENTRY, TREE

IN_MODIFY, IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 2, 4, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW, IN_IGNORED = 0x400, 0x800, 0x4000, 0x8000
IN_ONLYDIR, IN_EXCL_UNLINK, IN_ISDIR = 0x100_0000, 0x400_0000, 0x4000_0000
CONTENT = IN_MODIFY | IN_ATTRIB
NAMES = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
MASK = CONTENT | NAMES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK
EVENT = struct.Struct("iIII")
# Of one VM: the host's limit (fs.inotify.max_user_watches) is shared by all of a user's programs.
MOST_WATCHES = 16384
_LIBC = ctypes.CDLL(None, use_errno=True)

Place = tuple[int, bytes]
"""A folder's number and a path below it."""


class Watches:
    """`descriptor` None: this host has no inotify left for us, and nothing is ever watched."""

    def __init__(self) -> None:
        found = int(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self.descriptor = found if found >= 0 else None
        self._places: dict[int, Place] = {}
        self._numbers: dict[Place, int] = {}

    def add(self, place: Place, folder: int) -> bool:
        """Watch the folder that the descriptor `folder` is open on; False where that cannot be."""
        if place in self._numbers:
            return True
        if self.descriptor is None or len(self._places) >= MOST_WATCHES:
            return False
        path = f"/proc/self/fd/{folder}".encode()
        number = int(_LIBC.inotify_add_watch(self.descriptor, path, ctypes.c_uint32(MASK)))
        if number < 0:
            return False
        # The folder was known by another name.
        self._numbers.pop(self._places.pop(number, place), None)
        self._places[number], self._numbers[place] = place, number
        return True

    def move(self, old: Place, new: Place) -> None:
        """The guest has renamed a folder."""
        for number, place in list(self._places.items()):
            if _is_within(place, old):
                moved = (new[0], new[1] + place[1][len(old[1]) :])
                del self._numbers[place]
                self._places[number] = moved
        self._numbers = {place: number for number, place in self._places.items()}

    def forget(self, place: Place) -> None:
        """Neither the folder nor what is below it is known by that path any more."""
        for number, known in list(self._places.items()):
            if _is_within(known, place):
                del self._places[number], self._numbers[known]
                if self.descriptor is not None:
                    _LIBC.inotify_rm_watch(self.descriptor, number)

    def read(self, own: Collection[Place] = ()) -> Iterator[tuple[int, Place, bytes]]:
        """What has happened since: kind, folder, name; each once. `own` was changed by the guest, which knows."""
        seen: set[tuple[int, Place, bytes]] = set()
        for number, mask, name in self._read_raw():
            for event in self._translate(number, mask, name, own):
                if event not in seen:
                    seen.add(event)
                    yield event

    def _translate(
        self, number: int, mask: int, name: bytes, own: Collection[Place]
    ) -> Iterator[tuple[int, Place, bytes]]:
        if mask & IN_Q_OVERFLOW:
            for folder in {place[0] for place in self._places.values()}:
                self.forget((folder, b""))
                yield TREE, (folder, b""), b""
            return
        place = self._places.get(number)
        if place is None:
            return
        named = (place[0], place[1] + b"/" + name if place[1] and name else place[1] or name)
        if named in own:
            return
        if mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF):
            self.forget(place)
            yield TREE, place, b""
        elif mask & NAMES:
            if mask & IN_ISDIR and mask & (IN_MOVED_FROM | IN_DELETE):
                self.forget(named)
                yield TREE, named, b""
            yield ENTRY, place, name
        elif name:
            yield CHANGED, place, name

    def _read_raw(self) -> Iterator[tuple[int, int, bytes]]:
        while self.descriptor is not None:
            try:
                data = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size
                yield number, mask, data[at : at + length].rstrip(b"\0")
                at += length


def _is_within(place: Place, above: Place) -> bool:
    return place[0] == above[0] and (
        place[1] == above[1] or not above[1] or place[1].startswith(above[1] + b"/")
    )
