# SPDX-License-Identifier: Apache-2.0
"""Cuts a planned image into fixed windows, reads and transforms them on all cores, and hands them back in order.

A window is a fixed, aligned stretch of the image, so the result does not depend on the number of threads. Each thread
keeps one buffer; a bounded number of windows is under way, so memory does not grow with the image.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from volant.errors import InvalidInput
from volant.fledge.blocks import PlannedImage

WINDOW_BYTES = 1 << 20
_ZEROS = bytes(WINDOW_BYTES)
_AHEAD_PER_THREAD = 3

T = TypeVar("T")
# Offset in the window, length, data or None, descriptor, offset in the descriptor's file.
Part = tuple[int, int, bytes | bytearray | memoryview | None, int, int]


@dataclass
class Window:
    """One stretch of the image and what lies in it; `parts` ascend."""

    offset: int
    parts: list[Part] = field(default_factory=list)

    def fill(self, buffer: memoryview) -> None:
        """Write the window's bytes into a buffer whose old content does not matter."""
        end = 0
        for start, length, data, descriptor, source_offset in self.parts:
            if start > end:
                buffer[end:start] = _ZEROS[: start - end]
            end = start + length
            if data is not None:
                buffer[start:end] = data
            else:
                _read_into(buffer[start:end], descriptor, source_offset)
        if end < len(buffer):
            buffer[end:] = _ZEROS[: len(buffer) - end]


def _read_into(view: memoryview, descriptor: int, offset: int) -> None:
    done = os.preadv(descriptor, [view], offset)
    while done < len(view):
        more = os.preadv(descriptor, [view[done:]], offset + done)
        if not more:
            raise InvalidInput("cannot read the image: a layer became shorter while it was read")
        done += more


def cut_windows(image: PlannedImage) -> Iterator[Window]:
    """The windows that hold anything, ascending."""
    window = Window(-WINDOW_BYTES)
    end = 0
    for offset, length, data, descriptor, source_offset in image.pieces():
        if offset < end and offset + length <= end:
            window.parts.append((offset - window.offset, length, data, descriptor, source_offset))
            continue
        view = None if data is None else memoryview(data)
        while length:
            if offset >= end:
                if window.parts:
                    yield window
                window = Window(offset - offset % WINDOW_BYTES)
                end = window.offset + WINDOW_BYTES
            take = min(length, end - offset)
            window.parts.append(
                (
                    offset - window.offset,
                    take,
                    None if view is None else view[:take],
                    descriptor,
                    source_offset,
                )
            )
            offset += take
            source_offset += take
            length -= take
            if view is not None:
                view = view[take:]
    if window.parts:
        yield window


def count_threads(threads: int | None) -> int:
    return threads or len(os.sched_getaffinity(0))


def transform_windows(
    image: PlannedImage, make_transform: Callable[[], Callable[[Window, memoryview], T]], threads: int | None
) -> Iterator[tuple[Window, T]]:
    """Each window, filled and transformed, in order. Every thread has a transform and a buffer of its own."""
    local = threading.local()

    def run(window: Window) -> T:
        if not hasattr(local, "transform"):
            local.transform = make_transform()
            local.buffer = memoryview(bytearray(WINDOW_BYTES))
        window.fill(local.buffer)
        transform: Callable[[Window, memoryview], T] = local.transform
        return transform(window, local.buffer)

    count = count_threads(threads)
    pool = ThreadPoolExecutor(count, thread_name_prefix="clusters")
    under_way: deque[tuple[Window, Future[T]]] = deque()
    try:
        for window in cut_windows(image):
            under_way.append((window, pool.submit(run, window)))
            if len(under_way) > count * _AHEAD_PER_THREAD:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
