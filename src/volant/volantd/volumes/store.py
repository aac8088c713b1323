# SPDX-License-Identifier: Apache-2.0
"""Volumes on disk: one folder each, with `volume.json` and the file system, a sparse file without partitions.

A size is written down before the file gets it, so that a daemon that was killed in between finishes at its next start.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from volant.contract.names import NAME_PATTERN
from volant.contract.volume_sizes import LARGEST_BYTES, SMALLEST_BYTES, STEP_BYTES
from volant.errors import Conflict, InvalidInput, NotFound
from volant.sizes import read_size, show_size
from volant.volantd.clock import now
from volant.volantd.folder_store import FolderStore
from volant.volantd.usage import Usage, describe_users

logger = logging.getLogger(__name__)

DISK = "disk.raw"
LABEL_BYTES = 16


class Volume(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    id: str
    name: str
    size_bytes: int
    created_at: str
    is_settled: bool = True
    """False while the VM that it is made for has no row yet."""


def find_volumes(state_dir: Path) -> Path:
    return state_dir / "volumes"


def find_disk(state_dir: Path, volume_id: str) -> Path:
    return find_volumes(state_dir) / volume_id / DISK


def make_serial(volume_id: str) -> str:
    """How a guest finds the volume's disk: 19 of the 20 bytes that a serial number may have."""
    return f"volume-{volume_id}"


def read_volume_size(text: str) -> int:
    """Bytes, a multiple of 1 MiB. Raises InvalidInput."""
    size = -(-read_size(text) // STEP_BYTES) * STEP_BYTES
    if not SMALLEST_BYTES <= size < LARGEST_BYTES:
        raise InvalidInput(
            f"cannot make a volume of {text}",
            resolution=f"give at least {show_size(SMALLEST_BYTES)} and less than {show_size(LARGEST_BYTES)}",
        )
    return size


class VolumeStore(FolderStore[Volume]):
    """Blocking, and quick but for `create`, `remove` and `sweep`."""

    def __init__(self, state_dir: Path, usage: Usage) -> None:
        super().__init__(find_volumes(state_dir), Volume, "volume")
        self._state_dir = state_dir
        self._usage = usage
        self._busy: dict[str, str] = {}

    def create(self, name: str, size_bytes: int, *, is_settled: bool = True) -> Volume:
        def write(folder: Path) -> int:
            # The daemon is smaller without it, and most never make a volume.
            from volant.filesystems.empty import write_empty_ext4

            write_empty_ext4(
                folder / DISK,
                size_bytes,
                label=name[:LABEL_BYTES],
                uuid=uuid.uuid4(),
                timestamp=int(time.time()),
            )
            return size_bytes

        return self.make(name, write, is_settled=is_settled)

    def make(self, name: str, write: Callable[[Path], int], *, is_settled: bool = True) -> Volume:
        """`write` puts the disk in a folder, and returns its bytes."""
        self.check_free(name)
        with self.draft() as (identity, hidden):
            size_bytes = write(hidden)
            volume = Volume(
                id=identity, name=name, size_bytes=size_bytes, created_at=now(), is_settled=is_settled
            )
            return self.publish(volume, hidden)

    def settle(self, volume: Volume) -> None:
        """The VM that it was made for is there."""
        self.write(volume.id, volume.model_copy(update={"is_settled": True}))

    def publish(self, volume: Volume, hidden: Path) -> Volume:
        self.put(volume.id, volume, hidden, lambda: self.check_free(volume.name))
        return volume

    def check_free(self, name: str) -> None:
        """Whether a volume may be called so."""
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput(
                f"cannot make volume {name!r}: a name has lower-case letters, digits, '-' and '_',"
                " begins with a letter or digit and has at most 63 of them"
            )
        if self.has(name):
            raise Conflict(
                f"cannot make volume {name}: there is one already", resolution="choose another name"
            )

    def list_all(self) -> list[Volume]:
        """By name."""
        return self.read_all(lambda volume: volume.name)

    def has(self, name: str) -> bool:
        return any(volume.name == name for volume in self.list_all())

    def get(self, name_or_id: str) -> Volume:
        volumes = self.list_all()
        for volume in volumes:
            if name_or_id in (volume.name, volume.id):
                return volume
        names = ", ".join(volume.name for volume in volumes[:20])
        raise NotFound(
            f"cannot find volume {name_or_id}",
            details=[f"existing: {names}"] if names else [],
            resolution=f"create it: volar volumes create {name_or_id} --size 10G",
        )

    def find_disk(self, volume: Volume) -> Path:
        return find_disk(self._state_dir, volume.id)

    def measure(self, volume: Volume) -> int:
        """Bytes on the host's disk: what was ever written, less what the guest gave back."""
        return self.find_disk(volume).stat().st_blocks * 512

    def resize(self, volume: Volume, size_bytes: int) -> Volume:
        """Make it larger; the file system follows where it is mounted."""
        if size_bytes < volume.size_bytes:
            raise InvalidInput(
                f"cannot make volume {volume.name} smaller: it has {show_size(volume.size_bytes)}",
                resolution="choose a larger size; volumes cannot be shrunk",
            )
        resized = volume.model_copy(update={"size_bytes": size_bytes})
        self.write(volume.id, resized)
        self._extend(resized)
        return resized

    def _extend(self, volume: Volume) -> None:
        disk = self.find_disk(volume)
        if disk.stat().st_size < volume.size_bytes:
            os.truncate(disk, volume.size_bytes)

    def find_vms(self, volume: Volume) -> list[str]:
        """Names of those that have it, running or not."""
        return self._usage.find_vms("volume", volume.name)

    def check_unused(self, volume: Volume, *, but: str = "") -> None:
        """Conflict where somebody has it `but` this VM."""
        users = self._usage.find_users("volume", volume.name)
        if users := [user for user in users if (user.group, user.name) != ("vms", but)]:
            counts, names, command = describe_users(users)
            raise Conflict(
                f"cannot delete volume {volume.name}: {counts} use it", details=names, resolution=command
            )

    def remove(self, volume: Volume) -> None:
        self.take_away(volume.id)

    def sweep(self) -> None:
        """At the daemon's start: what was cut off."""
        super().sweep()
        for volume in self.list_all():
            try:
                self._extend(volume)
            except OSError as error:
                logger.error("volume %s has lost its disk: %s", volume.name, error)

    @contextmanager
    def busy(self, volume: Volume, reason: str) -> Iterator[None]:
        """Nobody else touches the volume meanwhile, and no VM that has it starts."""
        self.check_idle(volume.id)
        self._busy[volume.id] = reason
        try:
            yield
        finally:
            del self._busy[volume.id]

    def check_idle(self, volume_id: str) -> None:
        """Conflict where something is being done to it."""
        if reason := self._busy.get(volume_id):
            raise Conflict(f"cannot use volume {self.get(volume_id).name}: it is being {reason}")
