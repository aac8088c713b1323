# SPDX-License-Identifier: Apache-2.0
"""Step 6 of the line, raw: a planned image as a sparse file."""

from __future__ import annotations

import os

from volant.errors import InvalidInput
from volant.fledge.blocks import PlannedImage
from volant.progress import Monitor

_PART_BYTES = 1 << 20


def write_raw(image: PlannedImage, descriptor: int, monitor: Monitor | None = None) -> None:
    """Write the image to an empty file; what is zero stays a hole."""
    os.ftruncate(descriptor, image.size_bytes)
    for offset, length, data, source, source_offset in image.pieces():
        if data is not None:
            _write(descriptor, data, offset)
        else:
            done = 0
            while done < length:
                part = os.pread(source, min(_PART_BYTES, length - done), source_offset + done)
                if not part:
                    raise InvalidInput("cannot read the image: a layer became shorter while it was read")
                _write(descriptor, part, offset + done)
                done += len(part)
        if monitor is not None:
            monitor.advance(length)


def _write(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
