# SPDX-License-Identifier: Apache-2.0
"""Space kept for the database, given up when the host's disk is full, as the guests may make it.

A running daemon writes into spare pages of its database. One that starts has no such pages in its log yet, and takes
them from this file with allocated blocks; it is made again as soon as there is room.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

# Some hundred times what one change of a VM takes, the write-ahead log included.
SIZE_BYTES = 8 << 20


class Reserve:
    def __init__(self, path: Path, size_bytes: int = SIZE_BYTES) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def keep(self) -> bool:
        """Make it where it is not there; whether it is. On a full disk nothing is left of the attempt."""
        with suppress(OSError):
            if self._path.stat().st_size >= self._size_bytes:
                return True
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            return False
        return True

    def give_up(self) -> bool:
        """Free the space; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        logger.warning("the host's disk is full: %s was given up for the database", self._path)
        return True
