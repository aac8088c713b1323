# SPDX-License-Identifier: Apache-2.0
"""Cuts a planned image into fixed windows, reads and transforms them on all cores, and hands them back in order.

A window is a fixed, aligned stretch of the image, so the result does not depend on the number of threads. Each thread
keeps one buffer; a bounded number of windows is under way, so memory does not grow with the image.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from volant.errors import InvalidInput
from volant.filesystems.blocks import Data, PlannedImage

WINDOW_BYTES = 1 << 20
_ZEROS = bytes(WINDOW_BYTES)
# Windows under way at once: enough that whoever puts them together need not wait for one that takes long.
_AHEAD_PER_THREAD = 3
_LEAST_AHEAD = 16
_MOST_BETWEEN = 4096
_MOST_VIEWS = 500  # Linux takes 1024 at once
# Threads write over each other's bytes here, and nobody reads them.
_FORGOTTEN = memoryview(bytearray(_MOST_BETWEEN))

T = TypeVar("T")
# Offset in the window, length, data or None, descriptor, offset in the descriptor's file.
Part = tuple[int, int, Data | None, int, int]
# After so many others comes one that takes long to make.
_DEFERRED_EVERY = 8


@dataclass
class Window:
    """One stretch of the image and what lies in it; `parts` ascend. `deferred`: by part, what makes its data."""

    offset: int
    parts: list[Part] = field(default_factory=list)
    deferred: dict[int, Callable[[], Data]] = field(default_factory=dict)

    def make_deferred(self) -> None:
        """Make the data that are not there yet."""
        for number, make in self.deferred.items():
            start, length, *_ = self.parts[number]
            self.parts[number] = (start, length, make(), -1, 0)

    def fill(self, buffer: memoryview) -> None:
        """Write the window's bytes into a buffer whose old content does not matter."""
        end = 0
        reads = _Reads()
        for start, length, data, descriptor, source_offset in self.parts:
            if start > end:
                buffer[end:start] = _ZEROS[: start - end]
            end = start + length
            if data is not None:
                buffer[start:end] = data
            else:
                reads.add(buffer[start:end], descriptor, source_offset)
        reads.flush()
        if end < len(buffer):
            buffer[end:] = _ZEROS[: len(buffer) - end]


class _Reads:
    """Gathers reads that follow each other in their source, as a layer's files do, into one call.

    What lies between them (the files' headers in the tar) is read, too, and forgotten.
    """

    def __init__(self) -> None:
        self._views: list[memoryview] = []
        self._descriptor = -1
        self._start = self._end = 0

    def add(self, view: memoryview, descriptor: int, offset: int) -> None:
        between = offset - self._end
        if (
            descriptor != self._descriptor
            or not 0 <= between <= _MOST_BETWEEN
            or len(self._views) > _MOST_VIEWS
        ):
            self.flush()
            self._descriptor = descriptor
            self._start = offset
        elif between:
            self._views.append(_FORGOTTEN[:between])
        self._views.append(view)
        self._end = offset + len(view)

    def flush(self) -> None:
        views, offset = self._views, self._start
        self._views = []
        while views:
            done = os.preadv(self._descriptor, views, offset)
            if not done:
                raise InvalidInput("cannot read the image: a layer became shorter while it was read")
            offset += done
            while views and done >= len(views[0]):
                done -= len(views.pop(0))
            if done:
                views[0] = views[0][done:]


def cut_windows(image: PlannedImage) -> Iterator[Window]:
    """The windows that hold anything, ascending."""
    window = Window(-WINDOW_BYTES)
    end = 0
    for offset, length, data, descriptor, source_offset in image.pieces():
        if offset >= end:
            if window.parts:
                yield window
            window = Window(offset - offset % WINDOW_BYTES)
            end = window.offset + WINDOW_BYTES
        if callable(data):
            window.deferred[len(window.parts)] = data
            data = b""
        if offset + length <= end:
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


def spread_deferred(windows: Iterable[Window]) -> Iterator[Window]:
    """The same windows, but those with deferred data come between others, which have no need of the interpreter."""
    deferred: deque[Window] = deque()
    others = 0
    for window in windows:
        if window.deferred:
            deferred.append(window)
            continue
        yield window
        others += 1
        if deferred and others % _DEFERRED_EVERY == 0:
            yield deferred.popleft()
    yield from deferred


def count_threads(threads: int | None) -> int:
    return threads or len(os.sched_getaffinity(0))


def transform_windows(
    windows: Iterable[Window],
    make_transform: Callable[[], Callable[[Window, memoryview], T]],
    threads: int | None,
) -> Iterator[tuple[Window, T]]:
    """Each window and what became of it, in order.

    Every thread has a transform and a buffer of its own, which the transform fills if it needs the window's bytes.
    """
    local = threading.local()

    def run(window: Window) -> T:
        if not hasattr(local, "transform"):
            local.transform = make_transform()
            local.buffer = memoryview(bytearray(WINDOW_BYTES))
        transform: Callable[[Window, memoryview], T] = local.transform
        window.make_deferred()
        return transform(window, local.buffer)

    count = count_threads(threads)
    most = max(count * _AHEAD_PER_THREAD, _LEAST_AHEAD)
    pool = ThreadPoolExecutor(count, thread_name_prefix="clusters")
    under_way: deque[tuple[Window, Future[T]]] = deque()
    try:
        for window in windows:
            under_way.append((window, pool.submit(run, window)))
            if len(under_way) > most:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
