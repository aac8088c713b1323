# SPDX-License-Identifier: Apache-2.0
"""Step 6 of the line, raw: a planned image as a sparse file, or as deflated parts for an archive."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator

from isal import isal_zlib

from volant.filesystems.blocks import PlannedImage
from volant.fledge.clusters import WINDOW_BYTES, Window, cut_windows, transform_windows
from volant.progress import Monitor

_ZERO_WINDOW = bytes(WINDOW_BYTES)
_LEVEL = 6
# What lies less than this apart is written in one go: the bytes between are the end of a block.
_BLOCK_BYTES = 4096


def write_raw(
    image: PlannedImage, descriptor: int, *, threads: int | None = None, monitor: Monitor | None = None
) -> None:
    """Write the image to an empty file; what is zero stays a hole."""
    os.ftruncate(descriptor, image.size_bytes)

    def write_window(window: Window, buffer: memoryview) -> None:
        window.fill(buffer)
        start = end = 0
        for offset, length, *_ in window.parts:
            if offset - end >= _BLOCK_BYTES:
                _write(descriptor, buffer[start:end], window.offset + start)
                start = offset
            end = offset + length
        _write(descriptor, buffer[start:end], window.offset + start)

    for window, _ in transform_windows(cut_windows(image), lambda: write_window, threads):
        if monitor is not None:
            monitor.advance(sum(part[1] for part in window.parts))


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


class DeflatedRaw:
    """The whole image as the body of one deflate stream; checksums are known when all parts have been taken.

    Windows are deflated on all cores, each ended by a full flush, so they don't depend on each other; the stretches of
    zeros between them are the same ready-made part again and again. zlib is used for everything that is stored:
    faster libraries give other bytes on other processors.
    """

    def __init__(self, image: PlannedImage, *, level: int | None = None, threads: int | None = None) -> None:
        self._image = image
        self._level = _LEVEL if level is None else level
        self._threads = threads
        self._digest = hashlib.sha256()
        self.crc = 0

    @property
    def checksum(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"

    def parts(self, monitor: Monitor) -> Iterator[bytes]:
        """Deflated bytes, without the stream's end: the caller may go on."""
        deflate = self._deflate
        position = 0
        zero_part = deflate(memoryview(_ZERO_WINDOW))

        def make_transform() -> Callable[[Window, memoryview], tuple[bytes, bytes]]:
            def transform(window: Window, buffer: memoryview) -> tuple[bytes, bytes]:
                window.fill(buffer)
                return bytes(buffer), deflate(buffer)

            return transform

        for window, (plain, part) in transform_windows(
            cut_windows(self._image), make_transform, self._threads
        ):
            while position < window.offset:
                yield self._take(_ZERO_WINDOW, zero_part)
                position += WINDOW_BYTES
            size = min(WINDOW_BYTES, self._image.size_bytes - position)
            yield self._take(plain, part) if size == WINDOW_BYTES else self._take_short(plain[:size])
            position += size
            monitor.advance(sum(piece[1] for piece in window.parts))
        while self._image.size_bytes - position >= WINDOW_BYTES:
            yield self._take(_ZERO_WINDOW, zero_part)
            position += WINDOW_BYTES
        if position < self._image.size_bytes:
            yield self._take_short(_ZERO_WINDOW[: self._image.size_bytes - position])

    def _deflate(self, data: memoryview) -> bytes:
        compressor = zlib.compressobj(self._level, zlib.DEFLATED, -15)
        return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)

    def _take_short(self, plain: bytes) -> bytes:
        return self._take(plain, self._deflate(memoryview(plain)))

    def _take(self, plain: bytes, part: bytes) -> bytes:
        self._digest.update(plain)
        self.crc = isal_zlib.crc32(plain, self.crc)
        return part
