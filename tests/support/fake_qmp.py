# SPDX-License-Identifier: Apache-2.0
"""The control of a QEMU that is not there: QMP on a UNIX socket, one client at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}


class FakeQmp:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.status: dict[str, Any] = {"running": True, "status": "running"}
        self.is_silent = False
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if self.is_silent:
            return
        self._send(writer, {"QMP": {"version": VERSION, "capabilities": []}})
        text = ""
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                text = self._answer_all(writer, text + data.decode())

    def _answer_all(self, writer: asyncio.StreamWriter, text: str) -> str:
        """What is left: a document need not end with a line."""
        while text.strip():
            try:
                call, end = json.JSONDecoder().raw_decode(text := text.lstrip())
            except ValueError:
                break
            self._answer(writer, call)
            text = text[end:]
        return text

    def _answer(self, writer: asyncio.StreamWriter, call: dict[str, Any]) -> None:
        self.heard.append(call["execute"])
        answer = {"error": {"class": "GenericError", "desc": "no such thing"}}
        if call["execute"] != "fail":
            answer = {"return": self.status if call["execute"] == "query-status" else {}}
        self._send(writer, {**answer, "id": call["id"]} if "id" in call else answer)

    def _send(self, writer: asyncio.StreamWriter, document: object) -> None:
        writer.write(json.dumps(document).encode() + b"\r\n")

    def tell(self, event: str, **data: object) -> None:
        stamp = {"seconds": 1, "microseconds": 0}
        self._send(self._writers[-1], {"event": event, "data": data, "timestamp": stamp})

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@asynccontextmanager
async def serve_qmp(path: Path) -> AsyncIterator[FakeQmp]:
    fake = FakeQmp()
    server = await asyncio.start_unix_server(fake.serve, str(path))
    try:
        yield fake
    finally:
        fake.hang_up()
        server.close()
