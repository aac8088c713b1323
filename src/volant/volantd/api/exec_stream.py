# SPDX-License-Identifier: Apache-2.0
"""One command in a guest over a WebSocket: as a program has it, or with a terminal.

    client   bytes: standard input · empty text: its end · {"columns": 80, "rows": 24}: the terminal's new size
    daemon   bytes: standard output · {"stderr": "…"} · {"exit_code": 0}, and the close

Neither side is read faster than the other takes: SSH's windows and the WebSocket's transport hold what waits.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from volant.volantd.guest.connection import read_exit_code
from volant.volantd.guest.ssh_library import asyncssh
from volant.volantd.tasks import end_tasks

CHUNK_BYTES = 1 << 16


class TerminalSize(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    columns: int = Field(ge=1, le=10_000)
    rows: int = Field(ge=1, le=10_000)


async def pump_process(websocket: WebSocket, process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Carry everything until the process has ended, or the client is gone: then it is hung up on."""
    await websocket.accept()
    taking = asyncio.create_task(_take_in(websocket, process))
    sending = asyncio.create_task(_send_out(websocket, process))
    try:
        await asyncio.wait({taking, sending}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks((taking, sending))
        if process.exit_status is None and process.exit_signal is None:
            with contextlib.suppress(OSError, asyncssh.Error):
                process.send_signal("HUP")
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()


async def _take_in(websocket: WebSocket, process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Until the client is gone, which ends it by an error; what comes after its end of input is dropped."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if content := message.get("bytes"):
            with contextlib.suppress(OSError, asyncssh.Error):
                process.stdin.write(content)
                await process.stdin.drain()
        elif (text := message.get("text")) == "":
            process.stdin.write_eof()
        elif text:
            with contextlib.suppress(ValidationError):
                size = TerminalSize.model_validate_json(text)
                process.change_terminal_size(size.columns, size.rows)


async def _send_out(websocket: WebSocket, process: asyncssh.SSHClientProcess[bytes]) -> None:
    async def send_stdout() -> None:
        while content := await process.stdout.read(CHUNK_BYTES):
            await websocket.send_bytes(content)

    async def send_stderr() -> None:
        text = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in two pieces
        while content := await process.stderr.read(CHUNK_BYTES):
            await _tell(websocket, stderr=text.decode(content))
        if rest := text.decode(b"", final=True):
            await _tell(websocket, stderr=rest)

    await asyncio.gather(send_stdout(), send_stderr())
    await process.wait_closed()
    await _tell(websocket, exit_code=read_exit_code(process))


async def _tell(websocket: WebSocket, **facts: Any) -> None:
    await websocket.send_text(json.dumps(facts, separators=(",", ":")))
