# SPDX-License-Identifier: Apache-2.0
"""`kubectl port-forward`: SPDY in a WebSocket (KEP-4006). For each connection a stream for errors, and one for data.

Both name the port and the connection's number ("port", "requestID"; k8s.io/api/core/v1 has the names).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from volant.client import AsyncClient
from volant.errors import VolantError
from volant.kubernetes.exec_channels import end_tasks
from volant.kubernetes.spdy import SpdyConnection, SpdyError, Stream

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHUNK_BYTES = 1 << 16


async def forward_ports(websocket: WebSocket, client: AsyncClient, vm: str) -> None:
    """Carry connections to a VM's ports until the client is gone."""
    await websocket.accept(subprotocol=PROTOCOL)
    errors: dict[str, Stream] = {}
    tasks: set[asyncio.Task[None]] = set()

    def begin(stream: Stream) -> None:
        request = stream.headers.get("requestid", "")
        if stream.headers.get("streamtype") == "error":
            errors[request] = stream
            return
        task = asyncio.create_task(_carry(client, vm, stream, errors.pop(request, None)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    connection = SpdyConnection(websocket.send_bytes, begin)
    try:
        while True:
            await connection.feed(await websocket.receive_bytes())
    except (WebSocketDisconnect, SpdyError, KeyError):
        pass
    finally:
        await end_tasks(tuple(tasks))
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()


async def _carry(client: AsyncClient, vm: str, data: Stream, error: Stream | None) -> None:
    problem = b""
    try:
        port = int(data.headers.get("port", ""))
        async with client.open_port(vm, port) as connected:
            reader, writer = await asyncio.open_connection(sock=connected)
            sending = asyncio.create_task(_send_in(data, writer))
            try:
                while content := await reader.read(CHUNK_BYTES):
                    await data.send(content)
            finally:
                await end_tasks((sending,))
                writer.close()
    except (VolantError, OSError, ValueError) as failure:
        problem = str(failure).encode()
    if error is not None:
        await error.send(problem, is_last=True)
    await data.send(b"", is_last=True)


async def _send_in(data: Stream, writer: asyncio.StreamWriter) -> None:
    while (content := await data.incoming.get()) is not None:
        writer.write(content)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
