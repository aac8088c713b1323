# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' remote commands over a WebSocket, protocol v5.channel.k8s.io and its forerunners.

Each message begins with its channel: 0 standard input, 1 output, 2 error output, 3 the end as a Status object, 4 the
terminal's size; 255 and a channel say that this one has ended (k8s.io/apimachinery/pkg/util/remotecommand).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from volant.client import AsyncClient
from volant.client.asynchronous import AsyncRunningCommand
from volant.errors import VolantError
from volant.kubernetes.stream_protocols import OFFER_HEADER, choose_protocol, write_end

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
DEFAULT_SIZE = (80, 24)
NO_STDIN = b"the workload of a VM has no standard input: what is typed here does not reach it\n"


async def run_command(
    websocket: WebSocket,
    client: AsyncClient,
    vm: str,
    command: list[str],
    *,
    is_terminal: bool,
    wants_stdin: bool,
) -> None:
    """Run one command in a pod's VM until it or the client ends."""
    protocol = choose_protocol(websocket.headers.get(OFFER_HEADER, ""))
    await websocket.accept(subprotocol=protocol)
    try:
        async with client.open_exec(vm, command, terminal=DEFAULT_SIZE if is_terminal else None) as running:
            if not wants_stdin:
                await running.close_input()
            await _carry(websocket, running)
        end = make_status(running.exit_code or 0)
    except VolantError as error:
        end = make_failure("InternalError", str(error))
    await _tell_end(websocket, protocol, end)


async def attach(websocket: WebSocket, client: AsyncClient, vm: str) -> None:
    """A pod's own workload, until it has ended or the client has; how it ended is in the pod's status."""
    protocol = choose_protocol(websocket.headers.get(OFFER_HEADER, ""))
    await websocket.accept(subprotocol=protocol)
    try:
        async with client.open_workload(vm) as running:
            await _carry(websocket, running)
        end = make_status(0)
    except VolantError as error:
        end = make_failure("InternalError", str(error))
    await _tell_end(websocket, protocol, end)


async def _carry(websocket: WebSocket, running: AsyncRunningCommand) -> None:
    """Everything, until it has ended or the client is gone."""

    async def show() -> None:
        async for output in running:
            channel = STDERR if output.source == "stderr" else STDOUT
            await websocket.send_bytes(bytes((channel,)) + output.content)

    await _until_gone(show(), _take_in(websocket, running))


async def _until_gone(showing: Coroutine[Any, Any, None], listening: Coroutine[Any, Any, None]) -> None:
    """`listening` ends when the client is gone: a workload that says nothing would not show it."""
    shown, gone = asyncio.create_task(showing), asyncio.create_task(listening)
    try:
        await asyncio.wait({shown, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        is_over = shown.done()
        await end_tasks((shown, gone))
    if is_over:
        with suppress(WebSocketDisconnect, RuntimeError):
            shown.result()


async def _tell_end(websocket: WebSocket, protocol: str, end: bytes) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        if (said := write_end(protocol, end)) is not None:
            await websocket.send_bytes(bytes((ERROR,)) + said)
        await websocket.close()


async def send_lines(websocket: WebSocket, lines: AsyncIterator[bytes], *, wants_stdin: bool) -> None:
    """What a workload writes, to somebody who attached. It has no standard input; who types is told so."""
    protocol = choose_protocol(websocket.headers.get(OFFER_HEADER, ""))
    await websocket.accept(subprotocol=protocol)

    async def show() -> None:
        if wants_stdin:
            await websocket.send_bytes(bytes((STDERR,)) + NO_STDIN)
        async for line in lines:
            await websocket.send_bytes(bytes((STDOUT,)) + line)

    async def listen() -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    await _until_gone(show(), listen())
    await _tell_end(websocket, protocol, make_status(0))


async def _take_in(websocket: WebSocket, running: AsyncRunningCommand) -> None:
    """Until the client is gone, or says what makes no sense."""
    with suppress(WebSocketDisconnect, KeyError, IndexError, ValueError, TypeError):
        while True:
            message = await websocket.receive_bytes()
            channel, content = message[0], message[1:]
            if channel == STDIN:
                await running.write(content)
            elif channel == RESIZE:
                size = json.loads(content)
                await running.resize(int(size["Width"]), int(size["Height"]))
            elif channel == CLOSE and content[:1] == bytes((STDIN,)):
                await running.close_input()


def make_status(exit_code: int) -> bytes:
    """A command's end as metav1.Status."""
    if exit_code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    return make_failure(
        "NonZeroExitCode", f"command terminated with non-zero exit code: exit status {exit_code}",
        causes=[{"reason": "ExitCode", "message": str(exit_code)}],
    )  # fmt: skip


def make_failure(reason: str, message: str, causes: Sequence[dict[str, str]] = ()) -> bytes:
    failed = {
        "metadata": {}, "status": "Failure", "reason": reason, "message": message, "details": {"causes": list(causes)},
    }  # fmt: skip
    return json.dumps(failed).encode()


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
