# SPDX-License-Identifier: Apache-2.0
"""/vms/{name}/…: what reaches into a guest. Streams are WebSockets, as byte_streams.py tells them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Annotated

import h11
from fastapi import Query, Request, WebSocket
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from volant.contract.agent import Hello
from volant.contract.api import (
    ExecRequest,
    ExecResult,
    Signature,
    SignatureRequest,
    SshSession,
    SshSessionRequest,
)
from volant.contract.manifest import Port
from volant.errors import Conflict, InvalidInput, Unreachable
from volant.volantd.api.byte_streams import Window, pump
from volant.volantd.api.exec_stream import pump_process
from volant.volantd.api.router import Router
from volant.volantd.guest.connection import ByteReader, ByteWriter
from volant.volantd.vms import own_sshd
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord

Variable = Annotated[str, Field(pattern=r"^[^=\x00]+=[^\x00]*$")]
ATTACH = "attach"
CHUNK_BYTES = 1 << 16
MOST_STREAMS = 256
OTHER_METHODS = ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# RFC 9110, section 7.6.1: these concern one connection only.
HOP_HEADERS = frozenset(
    {
        *(
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
        ),
        *(b"authorization", b"host", b"proxy-authorization"),
    }
)


def make_router(fleet: Fleet) -> Router:
    router = Router("/vms/{name}", tags=["guests"])
    streams = Streams()

    @router.post("/exec")
    async def execute(name: str, request: ExecRequest) -> ExecResult:
        """Run one command in the guest and return what it wrote."""
        async with fleet.enter(name) as guest:
            outcome = await guest.connection.run(
                request.command,
                user=request.user,
                working_dir=request.working_dir,
                env=request.env,
                stdin=base64.b64decode(request.stdin_base64),
                timeout_seconds=request.timeout_seconds,
            )
        return ExecResult(
            exit_code=outcome.exit_code,
            stdout=outcome.stdout.decode("utf-8", "replace"),
            stderr=outcome.stderr.decode("utf-8", "replace"),
        )

    @router.websocket("/exec/stream")
    async def stream_exec(
        websocket: WebSocket,
        name: str,
        command: Annotated[list[str], Query(min_length=1, max_length=1000)],
        user: str = "",
        working_dir: str = "",
        env: Annotated[list[Variable] | None, Query(max_length=1000)] = None,
        terminal: bool = False,
        columns: Annotated[int, Query(ge=1, le=10_000)] = 80,
        rows: Annotated[int, Query(ge=1, le=10_000)] = 24,
    ) -> None:
        size = (columns, rows) if terminal else None
        variables = dict(pair.split("=", 1) for pair in env or ())
        with streams.count(name):
            async with (
                fleet.enter(name) as guest,
                guest.connection.open_process(
                    command, user=user, working_dir=working_dir, env=variables, terminal=size
                ) as process,
            ):
                await pump_process(websocket, process)

    @router.websocket("/attach")
    async def stream_attach(
        websocket: WebSocket,
        name: str,
        columns: Annotated[int, Query(ge=0, le=10_000)] = 0,
        rows: Annotated[int, Query(ge=0, le=10_000)] = 0,
    ) -> None:
        """The workload's own input and output, as exec_stream.py tells them; its exit code is that of the workload."""
        check_attachable(fleet.get(name))
        with streams.count(name):
            async with fleet.enter(name) as guest:
                check_feature(name, guest.control.hello)
                async with guest.connection.open_workload(columns, rows) as process:
                    await pump_process(websocket, process)

    @router.post("/ssh")
    async def authorize_ssh(name: str, request: SshSessionRequest) -> SshSession:
        """Let a key log in for a while; the connection is the stream ssh/stream."""
        if (record := fleet.get(name)).has_own_system:
            return SshSession(**asdict(await own_sshd.authorize(record)))
        async with fleet.enter(name) as guest:
            host_key = await guest.control.authorize_ssh(request.public_key, request.ttl_seconds)
        return SshSession(host_key=host_key)

    @router.post("/ssh/signature")
    async def sign_for_ssh(name: str, request: SignatureRequest) -> Signature:
        """Log in to a guest that boots its own system: sign what its SSH server asks for with the key it was given."""
        signed = own_sshd.sign(fleet.get(name), base64.b64decode(request.data_base64))
        return Signature(signature_base64=base64.b64encode(signed).decode())

    @router.websocket("/ssh/stream")
    async def stream_ssh(websocket: WebSocket, name: str, window: Window = 0) -> None:
        if (record := fleet.get(name)).has_own_system:
            with streams.count(name):
                async with own_sshd.open_stream(record) as (reader, writer):
                    await pump(websocket, reader, writer, window=window)
            return
        with streams.count(name):
            async with fleet.enter(name) as guest, guest.connection.open_session_stream() as (reader, writer):
                await pump(websocket, reader, writer, window=window)

    @router.websocket("/shell")
    async def stream_shell(
        websocket: WebSocket,
        name: str,
        columns: Annotated[int, Query(ge=1, le=1000)] = 80,
        rows: Annotated[int, Query(ge=1, le=1000)] = 24,
        user: str = "",
        window: Window = 0,
    ) -> None:
        """A terminal with a shell in it. `columns` and `rows` in a note change its size."""
        with streams.count(name):
            async with (
                fleet.enter(name) as guest,
                guest.connection.open_shell(columns, rows, user=user) as (reader, writer, resize),
            ):
                await pump(websocket, reader, writer, window=window, resize=resize)

    @router.websocket("/ports/{port}/stream")
    async def stream_port(websocket: WebSocket, name: str, port: Port, window: Window = 0) -> None:
        with streams.count(name):
            async with (
                fleet.enter(name) as guest,
                guest.connection.open_port_stream(port) as (reader, writer),
            ):
                await pump(websocket, reader, writer, window=window)

    @router.websocket("/console")
    async def stream_console(websocket: WebSocket, name: str, window: Window = 0) -> None:
        vm = fleet.find(fleet.get(name).id)
        with streams.count(name), vm.use.session():
            connected = await vm.open_console()
            reader, writer = await asyncio.open_connection(sock=connected)
            try:
                await pump(websocket, reader, writer, window=window)
            finally:
                writer.close()

    @router.api_route("/proxy/{path:path}", methods=OTHER_METHODS, include_in_schema=False)
    @router.get("/proxy/{path:path}")
    async def proxy(name: str, path: str, request: Request) -> Response:
        """Send one HTTP request, of any method, to the workload's port through the guest's control stream."""
        record = fleet.get(name)
        workload = fleet.domain.plugins.load(record.plugin_reference).manifest.workload
        if workload.port is None:
            raise Conflict(f"cannot proxy to VM {name}: its plugin names no workload.port")
        target = find_target(request.scope["raw_path"], request.scope["query_string"])
        stack = contextlib.AsyncExitStack()
        guest = await stack.enter_async_context(fleet.enter(name))
        try:
            reader, writer = await stack.enter_async_context(guest.connection.open_port_stream(workload.port))
            status, headers, body = await forward(reader, writer, request, target, f"{name}:{workload.port}")
        except BaseException:
            await stack.aclose()
            raise

        async def chunks() -> AsyncIterator[bytes]:
            async with stack:
                async for chunk in body:
                    yield chunk

        reply = StreamingResponse(chunks(), status_code=status)
        reply.raw_headers = headers
        return reply

    return router


def check_attachable(record: VmRecord) -> None:
    """Raises Conflict."""
    asked = record.definition.workload
    if not asked.stdin and not asked.tty:
        raise Conflict(
            f"cannot attach to VM {record.name}: its workload was made without an input and a terminal",
            resolution=f"volar logs -f {record.name} shows what it writes; volar run -it makes one with both",
        )


def check_feature(name: str, hello: Hello) -> None:
    if ATTACH not in hello.features:
        raise Unreachable(
            f"cannot attach to VM {name}: its agent is of an older version",
            resolution=f"restart it, so that it boots with this host's agent: volar vms restart {name}",
        )


class Streams:
    """How many streams each VM has: a WebSocket is no longer one of its listener's connections."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def count(self, name: str) -> Iterator[None]:
        if self._open[name] >= MOST_STREAMS:
            raise Conflict(f"cannot open a stream to VM {name}: it has {MOST_STREAMS}, which is the most")
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]


def find_target(raw_path: bytes, query: bytes) -> bytes:
    """What the workload is asked for, as the client spelled it: decoding would change %2F and forbid %20."""
    path = re.sub(rb"^.*?/vms/[^/]+/proxy", b"", raw_path, count=1) or b"/"
    return path + (b"?" + query if query else b"")


async def forward(
    reader: ByteReader, writer: ByteWriter, request: Request, target: bytes, host: str
) -> tuple[int, list[tuple[bytes, bytes]], AsyncIterator[bytes]]:
    """Send the request over a stream of its own; returns status, headers and body of the answer."""
    client = h11.Connection(h11.CLIENT)

    def send(event: h11.Event) -> None:
        writer.write(client.send(event) or b"")

    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in HOP_HEADERS]
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    if has_body and "content-length" not in request.headers:
        headers.append((b"transfer-encoding", b"chunked"))
    headers += [(b"host", host.encode()), (b"connection", b"close")]
    try:
        send(h11.Request(method=request.method, target=target, headers=headers))
    except h11.LocalProtocolError as error:
        raise InvalidInput(f"cannot proxy to {host}: {error}") from error
    async for chunk in request.stream():
        if chunk:
            send(h11.Data(data=chunk))
            await writer.drain()
    send(h11.EndOfMessage())
    await writer.drain()

    async def next_event() -> h11.Event | type[h11.PAUSED]:
        while True:
            event = client.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # NEED_DATA is excluded
            client.receive_data(await reader.read(CHUNK_BYTES))

    try:
        event = await next_event()
        while isinstance(event, h11.InformationalResponse):
            event = await next_event()
    except h11.RemoteProtocolError as error:
        raise Unreachable(
            f"cannot proxy to {host}: the workload did not answer with HTTP: {error}"
        ) from error
    if not isinstance(event, h11.Response):
        raise Unreachable(f"cannot proxy to {host}: the workload closed without an answer")
    kept = [(name, value) for name, value in event.headers.raw_items() if name.lower() not in HOP_HEADERS]

    async def body() -> AsyncIterator[bytes]:
        while isinstance(data := await next_event(), h11.Data):
            yield bytes(data.data)

    return event.status_code, kept, body()
