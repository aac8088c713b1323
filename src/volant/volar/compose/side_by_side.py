# SPDX-License-Identifier: Apache-2.0
"""Plugins of several services made side by side: each line of fledge behind its service's name, and one end for all.

The first that fails ends the others, as Ctrl-C does: fledge cleans up when it is asked to end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import click

from volant.errors import Interrupted, ToolFailed
from volant.plugin_sources.workplace import CHUNK_BYTES, Workplace, find_fledge
from volant.process import find_tool, start_tool
from volant.volar.compose.foreground import COLORS
from volant.volar.printable import make_printable_line

# Converting a disk takes all cores; fetching, and most steps of a Dockerfile, do not.
MOST_AT_ONCE = min(4, max(2, os.cpu_count() or 1))
KEPT_LINES = 20
# For fledge to end what it has started.
END_SECONDS = 15.0
Make = Callable[[Workplace], str]
Row = Sequence[tuple[str, Make]]


def make_side_by_side(rows: Sequence[Row]) -> dict[str, str]:
    """What each returns, by name; those of a row follow each other. Raises the first problem, once all have ended."""
    end = _End()
    names = [name for row in rows for name, _ in row]
    width = max(map(len, names))
    prefixes = {
        name: click.style(f"{name:<{width}} |", fg=COLORS[number % len(COLORS)])
        for number, name in enumerate(names)
    }
    waiting = deque(rows)
    made: dict[str, str] = {}

    def work(over: threading.Event) -> None:
        try:
            work_off()
        finally:
            over.set()

    def work_off() -> None:
        while not end.is_set():
            try:
                row = waiting.popleft()
            except IndexError:  # another one took the last
                return
            try:
                for name, make in row:
                    made[name] = make(_Place(name, prefixes[name], end))
            except BaseException as problem:
                end.set(problem)

    workers = [threading.Event() for _ in range(min(MOST_AT_ONCE, len(rows)))]
    for over in workers:
        threading.Thread(target=work, args=(over,), daemon=True).start()
    try:
        end.wait_for(workers)
    except BaseException as problem:
        end.set(problem)
        end.wait_for(workers)
        raise
    if end.problem is not None:
        raise end.problem
    return made


class _End:
    """What ends them all: the first problem."""

    def __init__(self) -> None:
        self.problem: BaseException | None = None
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()

    def is_set(self) -> bool:
        return self.problem is not None

    def set(self, problem: BaseException) -> None:
        with self._lock:
            if self.problem is None:
                self.problem = problem
        self._signal(signal.SIGTERM)

    def check(self) -> None:
        if self.is_set():
            raise Interrupted("interrupted: another one failed")

    @contextmanager
    def watch(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """While it runs it is one of those that end."""
        with self._lock:
            self._running.add(process)
        try:
            if self.is_set():
                self._signal(signal.SIGTERM)
            yield
        finally:
            with self._lock:
                self._running.discard(process)

    def wait_for(self, workers: Sequence[threading.Event]) -> None:
        """Until all are over. Not by joining threads: one whose join Ctrl-C has interrupted counts as ended (3.11)."""
        deadline: float | None = None
        while left := [over for over in workers if not over.is_set()]:
            left[0].wait(0.1)  # so that Ctrl-C is heard
            if self.is_set() and deadline is None:
                deadline = time.monotonic() + END_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with self._lock:
            for process in self._running:
                with suppress(ProcessLookupError):
                    if process.poll() is None:
                        os.killpg(process.pid, number)


class _Place:
    """A workplace among others."""

    def __init__(self, name: str, prefix: str, end: _End) -> None:
        self._name, self._prefix, self._end = name, prefix, end

    def run_fledge(self, arguments: Sequence[str]) -> None:
        self._end.check()
        # It ends with us, killed or not: the death that counts is that of the thread that has started it.
        ending = [setpriv, "--pdeathsig", "TERM"] if (setpriv := find_tool("setpriv")) else []
        command = [*ending, find_fledge(), "build", *arguments, "--progress", "plain"]
        told: deque[str] = deque(maxlen=KEPT_LINES)
        with (
            start_tool(command, env=os.environ, stderr=subprocess.STDOUT) as process,
            self._end.watch(process),
        ):
            assert process.stdout is not None
            for raw in process.stdout:
                told.append(make_printable_line(raw.decode(errors="replace").rstrip()))
                click.echo(f"{self._prefix} {told[-1]}", err=True)
            status = process.wait()
        self._end.check()
        if status:
            raise ToolFailed(
                f"cannot make the plugin of {self._name}: fledge build ended with exit code {status}",
                details=_find_cause(list(told)),
            )

    def read(self, stream: IO[bytes], length: int) -> Iterator[bytes]:
        click.echo(f"{self._prefix} uploading ...", err=True)
        while chunk := stream.read(CHUNK_BYTES):
            self._end.check()
            yield chunk


def _find_cause(lines: list[str]) -> list[str]:
    """From fledge's own error on: others wrote between its lines and its end."""
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), -5)
    return lines[first:]
