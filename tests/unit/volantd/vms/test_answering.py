# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from volant.volantd.hypervisors.cloud_hypervisor.vsock import listen_for_guest
from volant.volantd.vms.answering import answer_at, open_listeners


class FakeMachine:
    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def listen_for_guest(self, port: int) -> socket.socket | None:
        return None if self._folder is None else listen_for_guest(self._folder / str(port), self._folder)


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    content = await reader.read()
    writer.close()
    return content


async def test_who_connects_is_answered(tmp_path: Path) -> None:
    listeners = open_listeners(FakeMachine(tmp_path), [9000, 9001], "web")  # type: ignore[arg-type]  # all it takes
    answers = {9000: b"value", 9001: None}
    tasks = [asyncio.create_task(answer_at(each, port, answers.get)) for port, each in listeners.items()]
    assert [await ask(tmp_path / "9000") for _ in range(2)] == [b"value", b"value"]
    assert await ask(tmp_path / "9001") == b""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_where_the_agent_listens_there_is_nothing_to_open() -> None:
    assert open_listeners(FakeMachine(None), [9000], "web") == {}  # type: ignore[arg-type]  # all it takes


def test_what_cannot_be_opened_is_told_and_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = FakeMachine(tmp_path / "gone")
    assert open_listeners(gone, [9000], "web") == {}  # type: ignore[arg-type]  # all it takes
    assert "cannot answer at port 9000" in caplog.text
