# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' remote commands over a WebSocket, protocol v5.channel.k8s.io and its forerunners.

Each message begins with its channel: 0 standard input, 1 output, 2 error output, 3 the end as a Status object, 4 the
terminal's size; 255 and a channel say that this one has ended (k8s.io/apimachinery/pkg/util/remotecommand).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from volant.client import AsyncClient
from volant.client.asynchronous import AsyncRunningCommand
from volant.errors import VolantError
from volant.kubernetes.stream_protocols import OFFER_HEADER, choose_protocol, write_end

PROTOCOL = "v5.channel.k8s.io"
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
            taking = asyncio.create_task(_take_in(websocket, running))
            try:
                async for output in running:
                    channel = STDERR if output.source == "stderr" else STDOUT
                    await websocket.send_bytes(bytes((channel,)) + output.content)
            finally:
                await end_tasks((taking,))
        end = make_status(running.exit_code or 0)
    except VolantError as error:
        end = make_failure("InternalError", str(error))
    with suppress(WebSocketDisconnect, RuntimeError):
        if (said := write_end(protocol, end)) is not None:
            await websocket.send_bytes(bytes((ERROR,)) + said)
        await websocket.close()


async def send_lines(websocket: WebSocket, lines: AsyncIterator[bytes], *, wants_stdin: bool) -> None:
    """What a workload writes, to somebody who attached. It has no standard input; who types is told so."""
    await websocket.accept(subprotocol=PROTOCOL)
    with suppress(WebSocketDisconnect, RuntimeError):
        if wants_stdin:
            await websocket.send_bytes(bytes((STDERR,)) + NO_STDIN)
        async for line in lines:
            await websocket.send_bytes(bytes((STDOUT,)) + line)
        await websocket.send_bytes(bytes((ERROR,)) + make_status(0))
        await websocket.close()


async def _take_in(websocket: WebSocket, running: AsyncRunningCommand) -> None:
    try:
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
    except (WebSocketDisconnect, KeyError, IndexError, ValueError):
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
