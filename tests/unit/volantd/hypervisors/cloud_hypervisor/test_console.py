# SPDX-License-Identifier: Apache-2.0
"""Typing into a process's standard input and reading its log, with a process that is no hypervisor."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from volant.volantd.hypervisors.cloud_hypervisor import console
from volant.volantd.hypervisors.cloud_hypervisor.console import (
    AttachedConsole,
    find_terminal,
    opened_terminal,
)
from volant.volantd.hypervisors.console import trim_log

ECHO = """
import os
while data := os.read(0, 100):
    os.write(1, b"heard " + data)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "console.log"
    path.write_text("earlier\n" * 100)
    return path


@pytest.fixture
def process(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with opened_terminal() as ends, log.open("ab") as output:
        started = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", ECHO], stdin=ends[0], stdout=output,
            pass_fds=(ends[console.TERMINAL_DESCRIPTOR],),
        )  # fmt: skip
    yield started
    started.kill()
    started.wait()


@asynccontextmanager
async def attach(process: subprocess.Popen[bytes], log: Path) -> AsyncIterator[AttachedConsole]:
    """Until the stream is closed here, whereupon it ends by itself."""
    terminal = find_terminal(process.pid)
    assert terminal is not None
    attached = AttachedConsole(terminal, log, lambda: process.poll() is not None)
    with attached.stream:
        yield attached
    await asyncio.wait_for(attached.task, 60)


async def read(attached: AttachedConsole) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(attached.stream, 100), 60)


async def say(attached: AttachedConsole, words: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(attached.stream, words)


async def test_what_is_typed_is_heard_and_shown_byte_by_byte(
    process: subprocess.Popen[bytes], log: Path
) -> None:
    async with attach(process, log) as first:
        # What a terminal would answer by itself goes through like everything else.
        await say(first, b"\x03\x04a")
        assert await read(first) == b"heard \x03\x04a"
    async with attach(process, log) as second:
        await say(second, b"\n")
        assert await read(second) == b"heard \n"


async def test_the_log_is_followed_when_it_has_been_trimmed(
    process: subprocess.Popen[bytes], log: Path
) -> None:
    async with attach(process, log) as attached:
        await say(attached, b"before")
        assert await read(attached) == b"heard before"
        assert trim_log(log, limit_bytes=100, kept_bytes=50)
        while attached._at > 100:  # noqa: ASYNC110  # what it has seen of the file
            await asyncio.sleep(0.01)
        await say(attached, b"after")
        assert await read(attached) == b"heard after"


async def test_the_last_words_are_shown_and_then_it_ends(process: subprocess.Popen[bytes], log: Path) -> None:
    async with attach(process, log) as attached:
        # It has its first turn when there is something to wait for.
        process.kill()
        process.wait()
        with log.open("ab") as output:
            output.write(b"last words")
        assert await read(attached) == b"last words"
        assert await read(attached) == b""


def test_a_process_without_a_terminal_has_none() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        assert find_terminal(process.pid) is None
        process.kill()
    assert find_terminal(process.pid) is None


def test_a_host_without_pseudoterminals_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("out of pty devices")

    monkeypatch.setattr(os, "openpty", refuse)
    with opened_terminal() as ends:
        assert ends == {}
