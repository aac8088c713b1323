# SPDX-License-Identifier: Apache-2.0
"""This terminal, or standard input and output, joined to a VM's workload, as `docker attach` does it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from volant.volar.client import Client

if TYPE_CHECKING:
    from volant.client.running_command import RunningCommand

# Docker's: Ctrl-P, then Ctrl-Q.
FIRST_KEY, SECOND_KEY = 0x10, 0x11
CHUNK_BYTES = 1 << 16


class LeaveKeys:
    """Finds them in what is typed. The first of them waits for what comes next."""

    def __init__(self) -> None:
        self._has_first = False
        self.were_typed = False

    def filter(self, typed: bytes) -> bytes:
        """What of it goes to the workload."""
        passed = bytearray()
        for key in typed:
            if self._has_first and key == SECOND_KEY:
                self.were_typed = True
                break
            if self._has_first:
                passed.append(FIRST_KEY)
            self._has_first = key == FIRST_KEY
            if not self._has_first:
                passed.append(key)
        return bytes(passed)


def join(client: Client, name: str, *, types: bool, on_terminal: bool) -> int | None:
    """The workload's exit code, or None where somebody has left it by the keys.

    `types`: it is given what is typed here; `on_terminal`: it has a terminal, and this one is made like it.
    """
    is_raw = on_terminal and types and sys.stdin.isatty()
    size = tuple(shutil.get_terminal_size()) if on_terminal and sys.stdout.isatty() else None
    with client.open_workload(name, terminal=size) as running:  # type: ignore[arg-type]  # two numbers
        keys = LeaveKeys() if is_raw else None
        has_left = threading.Event()

        def type_in() -> None:
            while typed := os.read(sys.stdin.fileno(), CHUNK_BYTES):
                running.write(keys.filter(typed) if keys is not None else typed)
                if keys is not None and keys.were_typed:
                    has_left.set()
                    running.leave()
                    return
            running.close_input()

        with _raw() if is_raw else _as_it_is(), _resizing(running, on_terminal=on_terminal):
            if types:
                threading.Thread(target=type_in, daemon=True).start()
            return _show(running, has_left)


def _show(running: RunningCommand, has_left: threading.Event) -> int | None:
    from volant.errors import Unreachable

    try:
        for output in running:
            stream = sys.stdout if output.source == "stdout" else sys.stderr
            stream.buffer.write(output.content)
            stream.buffer.flush()
    except Unreachable:
        if not has_left.is_set():
            raise
    return None if has_left.is_set() else running.exit_code


@contextmanager
def _raw() -> Iterator[None]:
    """Keys go to the workload as they are, Ctrl-C among them."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        # What was typed ahead stays.
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _resizing(running: RunningCommand, *, on_terminal: bool) -> Iterator[None]:
    """The workload's terminal has the size of this one."""
    if not on_terminal or not sys.stdout.isatty():
        yield
        return

    def resize(*_: Any) -> None:
        columns, rows = shutil.get_terminal_size()
        # Not from within the signal: it may have come in the middle of a message.
        threading.Thread(target=running.resize, args=(columns, rows), daemon=True).start()

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
