# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from volant.volar import terminal
from volant.volar.client import Client


class Console:
    """A stream that says hello and stays open until it is closed."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield b"hello\r\n"
        assert self.closed.wait(30)

    def send(self, keys: bytes) -> None:
        self.sent.append(keys)

    def close(self) -> None:
        self.closed.set()


def test_keys_go_in_until_the_one_that_leaves(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    console: Any = Console()

    @contextmanager
    def open_stream(client: Client, path: str) -> Iterator[Any]:
        assert path == "/vms/web/console"
        yield console

    read, write = os.pipe()
    monkeypatch.setattr(terminal, "open_stream", open_stream)
    with io.FileIO(read) as keys:
        monkeypatch.setattr("sys.stdin", keys)
        os.write(write, b"ls\n" + terminal.LEAVE + b"not sent")
        terminal.attach(Client("any"), "/vms/web/console")
    os.close(write)
    assert console.sent == [b"ls\n"]
    assert b"hello" in capfdbinary.readouterr().out
