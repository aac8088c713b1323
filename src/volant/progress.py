# SPDX-License-Identifier: Apache-2.0
"""Progress of long work, told to a monitor instead of printed.

Stages call `step`, `advance`, `say` and `warn`; the entry point chooses who listens: a live bar on a terminal
(rich, imported only then), plain lines for CI logs, JSON lines for programs, or nobody.
"""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self, TextIO

ProgressKind = Literal["auto", "plain", "json", "none"]


class Monitor(Protocol):
    """Who listens to the progress of one command. Used as a context manager around the whole command."""

    shows_lines: ClassVar[bool]
    """Whether people see what `say` is told, so that an error need not repeat it."""

    def step(self, name: str, total: int | None = None) -> None:
        """A new step begins. `total` counts its units (bytes where nothing else is said); None: unknown."""

    def advance(self, units: int) -> None:
        """So many more units of the current step are done."""

    def say(self, line: str) -> None:
        """One line that people should see: a decision taken, a tool's output."""

    def warn(self, line: str) -> None:
        """One line about something that is probably not what the user wants."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SilentMonitor:
    """Nobody listens; warnings still reach standard error."""

    shows_lines: ClassVar[bool] = False

    def step(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, units: int) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def warn(self, line: str) -> None:
        print(f"warning: {line}", file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class PlainMonitor(SilentMonitor):
    """A line a step, with its time when it ends: for CI logs and pipes. A long step also tells how far it is."""

    shows_lines: ClassVar[bool] = True
    QUIET_SECONDS = 5.0

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._name = ""
        self._began = self._told = 0.0
        self._total: int | None = None
        self._done = 0

    def _finish(self, outcome: str = "done") -> None:
        if self._name:
            seconds = time.monotonic() - self._began
            print(f"{self._name}: {outcome} ({seconds:.1f} s)", file=self._stream, flush=True)
            self._name = ""

    def step(self, name: str, total: int | None = None) -> None:
        self._finish()
        self._name, self._total, self._done = name, total, 0
        self._began = self._told = time.monotonic()
        print(f"{name} ...", file=self._stream, flush=True)

    def advance(self, units: int) -> None:
        self._done += units
        if self._total and time.monotonic() - self._told >= self.QUIET_SECONDS:
            self._told = time.monotonic()
            print(f"{self._name}: {100 * self._done / self._total:.0f} %", file=self._stream, flush=True)

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def warn(self, line: str) -> None:
        print(f"warning: {line}", file=self._stream, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish("done" if error is None else "failed")


class JsonMonitor(SilentMonitor):
    """JSON lines {time, event, ...} for programs; `advance` events at most ten times a second."""

    shows_lines: ClassVar[bool] = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._name = ""
        self._total: int | None = None
        self._done = 0
        self._told = 0.0

    def _write(self, event: str, **fields: Any) -> None:
        record = {"time": time.time(), "event": event, **fields}
        print(json.dumps(record), file=self._stream, flush=True)

    def step(self, name: str, total: int | None = None) -> None:
        self._name, self._total, self._done = name, total, 0
        self._write("step", step=name, total=total)

    def advance(self, units: int) -> None:
        self._done += units
        now = time.monotonic()
        if now - self._told >= 0.1 or self._done == self._total:
            self._told = now
            self._write("advance", step=self._name, done=self._done, total=self._total)

    def say(self, line: str) -> None:
        self._write("message", text=line)

    def warn(self, line: str) -> None:
        self._write("warning", text=line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("end", ok=error is None, **({"error": str(error)} if error is not None else {}))


class LiveMonitor(SilentMonitor):
    """A live bar on a terminal."""

    shows_lines: ClassVar[bool] = True

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task: Any = None

    def step(self, name: str, total: int | None = None) -> None:
        self._finish()
        self._task = self._progress.add_task(name, total=total, amount="")

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[-1]
            total = task.total if task.total is not None else max(task.completed, 1)
            self._progress.update(self._task, total=total, completed=total, amount="")
            self._progress.stop_task(self._task)

    def advance(self, units: int) -> None:
        if self._task is None:
            return
        self._progress.update(self._task, advance=units)
        task = self._progress.tasks[-1]
        if task.total:
            self._progress.update(self._task, amount=f"{100 * task.completed / task.total:3.0f} %")

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def warn(self, line: str) -> None:
        self._console.print(f"warning: {line}", markup=False, highlight=False, style="yellow")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._progress.stop()


def make_monitor(kind: ProgressKind = "auto", *, quiet: bool = False) -> Monitor:
    """The monitor for a command: `auto` is live on a terminal and plain elsewhere."""
    if quiet or kind == "none":
        return SilentMonitor()
    if kind == "json":
        return JsonMonitor()
    if kind == "auto" and sys.stderr.isatty():
        return LiveMonitor()
    return PlainMonitor()
