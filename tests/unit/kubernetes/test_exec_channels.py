# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

from volant.kubernetes.exec_channels import make_failure, make_status, send_lines


def test_an_end_is_a_status_with_the_code_that_kubectl_exits_with() -> None:
    assert json.loads(make_status(0))["status"] == "Success"
    failed = json.loads(make_status(7))
    assert (failed["status"], failed["reason"]) == ("Failure", "NonZeroExitCode")
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert json.loads(make_failure("InternalError", "gone"))["message"] == "gone"


class Websocket:
    """A client that goes at once, or stays; what it was sent is kept."""

    def __init__(self, *, stays: bool) -> None:
        self._gone = asyncio.Event()
        if not stays:
            self._gone.set()
        self.sent: list[bytes] = []
        self.headers: dict[str, str] = {}

    async def accept(self, subprotocol: str) -> None: ...

    async def receive(self) -> dict[str, str]:
        await self._gone.wait()
        return {"type": "websocket.disconnect"}

    async def send_bytes(self, content: bytes) -> None:
        self.sent.append(content)

    async def close(self) -> None: ...


async def write_nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def write_two() -> AsyncIterator[bytes]:
    yield b"one\n"
    yield b"two\n"


async def test_who_has_gone_holds_no_workload_that_says_nothing() -> None:
    async with asyncio.timeout(30):
        await send_lines(cast("Any", Websocket(stays=False)), write_nothing(), wants_stdin=False)


async def test_who_stays_sees_all_lines_and_the_end() -> None:
    websocket = Websocket(stays=True)
    await send_lines(cast("Any", websocket), write_two(), wants_stdin=False)
    assert websocket.sent == [b"\x01one\n", b"\x01two\n", b"\x03" + make_status(0)]
