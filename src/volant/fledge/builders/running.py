# SPDX-License-Identifier: Apache-2.0
"""Runs one command of a builder: its output line by line, patience while its storage is busy, a clean end.

Whoever holds the lock of the builder's storage (another build, a pull) makes every command on it wait, `info` too.
The kernel knows who waits for whom, so a builder that waits is told from one that hangs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from volant.errors import ToolFailed
from volant.fledge.builders.base import Builder
from volant.process import start_tool
from volant.progress import Monitor

FIRST_WORD_SECONDS = 3.0
NEXT_WORD_SECONDS = 30.0
# What builders call themselves: their own processes below the one we started, not what they run for a step.
_OWN_NAMES = frozenset({"docker", "podman", "buildah", "buildah-in-a-user-namespace"})


def run_builder(
    builder: Builder,
    arguments: Sequence[str],
    tell: Callable[[str], None],
    monitor: Monitor,
    *,
    env: Mapping[str, str] | None = None,
    limit_seconds: float | None = None,
) -> int:
    """Run a command of a builder and return its exit code, minus the number where a signal ended it.

    `tell` gets its output and errors line by line. With `limit_seconds` it may take so long, waiting for a lock not
    counted; ToolFailed then.
    """
    environment = {**builder.environment(), **(env or {})}
    # The steps inherit it, and the modes of what they make must not depend on who builds.
    umask = os.umask(0o022)
    with start_tool(arguments, env=environment, stderr=subprocess.STDOUT) as process:
        os.umask(umask)
        assert process.stdout is not None
        with _watch(process, builder.name, monitor, limit_seconds) as is_late:
            try:
                for line in process.stdout:
                    tell(line.decode("utf-8", "replace").rstrip("\r\n"))
                code = process.wait()
            except BaseException:
                if builder.name != "docker":
                    _end_steps_first(process)
                raise
    if is_late.is_set():
        raise ToolFailed(f"cannot use {builder.name}: '{arguments[1]}' had no end after {limit_seconds:g} s")
    return code


# -- patience --------------------------------------------------------------------------------------------


@contextmanager
def _watch(
    process: subprocess.Popen[bytes], name: str, monitor: Monitor, limit_seconds: float | None
) -> Iterator[threading.Event]:
    """Says whom the process waits for, and ends it when it takes too long without waiting for anybody."""
    is_over, is_late = threading.Event(), threading.Event()

    def watch() -> None:
        busy_seconds = waited_seconds = 0.0
        next_word = FIRST_WORD_SECONDS
        while not is_over.wait(0.5):
            holder = find_lock_holder(process.pid)
            if holder is None:
                busy_seconds += 0.5
                waited_seconds, next_word = 0.0, FIRST_WORD_SECONDS
            else:
                waited_seconds += 0.5
            if holder is not None and waited_seconds >= next_word:
                monitor.say(f"{name} is busy: {holder} holds the lock of its storage; waiting")
                next_word += NEXT_WORD_SECONDS
            if limit_seconds is not None and busy_seconds > limit_seconds:
                is_late.set()
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=watch, name="builder-watch", daemon=True)
    thread.start()
    try:
        yield is_late
    finally:
        is_over.set()
        thread.join()


def find_lock_holder(pid: int) -> str | None:
    """Who holds a file lock that a process or one below it waits for: `process 42 (podman)`; None if it waits for none.

    /proc/locks: a line a lock, and below it a line with an arrow for everybody who waits for it (proc(5)).
    """
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    if not any(" -> " in line for line in lines):
        return None
    ours = {pid, *find_descendants(pid)}
    holder = 0
    for line in lines:
        fields = line.split()
        if fields[1] != "->":
            holder = int(fields[4])
        elif int(fields[5]) in ours and holder not in ours:
            name = ""
            with suppress(OSError):
                name = Path(f"/proc/{holder}/comm").read_text().strip()
            return f"process {holder} ({name})" if name else "another process"
    return None


def find_descendants(pid: int) -> Iterator[int]:
    """The processes below one, parents before their children."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from find_descendants(int(child))


# -- a clean end -----------------------------------------------------------------------------------------


def _end_steps_first(process: subprocess.Popen[bytes], deadline_seconds: float = 12.0) -> None:
    """End what the builder runs, not the builder, which then takes its working containers away by itself.

    podman ends at once on SIGTERM and leaves containers and mounts behind; a step that fails it cleans up
    after.
    """
    began = time.monotonic()
    while process.poll() is None and (spent := time.monotonic() - began) < deadline_seconds:
        for child in reversed(list(_find_step_processes(process.pid))):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGTERM if spent < 2 else signal.SIGKILL)
        time.sleep(0.05)


def _find_step_processes(pid: int) -> Iterator[int]:
    """What runs for a step; not the builder's own child, in whose user namespace it works for an ordinary user."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                if _is_builder(child):
                    yield from _find_step_processes(child)
                else:
                    yield child
                    yield from find_descendants(child)


def _is_builder(pid: int) -> bool:
    with suppress(OSError):
        name = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
        return Path(os.fsdecode(name)).name in _OWN_NAMES
    return False
