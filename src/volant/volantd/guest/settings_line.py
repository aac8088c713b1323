# SPDX-License-Identifier: Apache-2.0
"""Tells a guest that woke from memory which VM it is (`volant.contract.settings_line`)."""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import time
from collections.abc import Sequence

from volant.contract.guest_config import GuestConfig
from volant.contract.settings_line import ANSWER_PREFIX, SETTINGS_PREFIX, Become, Wake
from volant.errors import GuestFailed, Unreachable

ENTROPY_BYTES = 64
CHUNK_BYTES = 1 << 16
# What an earlier host left in the stream, and the longest answer that is read.
SKIPPED_LIMIT_BYTES = 64 << 20
ANSWER_LIMIT_BYTES = 4096


async def send_settings(
    stream: socket.socket, config: GuestConfig, hardware_addresses: Sequence[str], *, timeout_seconds: float
) -> None:
    """Returns once the guest has become that VM; GuestFailed with its words where it cannot. Closes the stream."""
    become = Become(
        guest_config=config,
        entropy_base64=_draw_entropy(),
        hardware_addresses=list(hardware_addresses),
    )
    await _ask(stream, become.model_dump_json(exclude_defaults=True).encode(), timeout_seconds)


async def send_wake(stream: socket.socket, *, timeout_seconds: float) -> None:
    """Returns once the guest goes on as who it was; GuestFailed with its words where it cannot. Closes the stream."""
    wake = Wake(unix_time_nanoseconds=time.time_ns(), entropy_base64=_draw_entropy())
    await _ask(stream, wake.model_dump_json().encode(), timeout_seconds)


def _draw_entropy() -> str:
    return base64.b64encode(secrets.token_bytes(ENTROPY_BYTES)).decode()


async def wait_for_template(stream: socket.socket, *, timeout_seconds: float) -> None:
    """Returns once the guest waits for its settings. Closes the stream."""
    await _ask(stream, b"", timeout_seconds)


async def _ask(stream: socket.socket, message: bytes, timeout_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    word = secrets.token_hex(8)
    mark = f"{ANSWER_PREFIX}{word} ".encode()
    try:
        with stream:
            async with asyncio.timeout(timeout_seconds):
                await loop.sock_sendall(
                    stream, f"{SETTINGS_PREFIX}{word} {len(message)}\n".encode() + message
                )
                answer = await _read_answer(loop, stream, mark)
    except TimeoutError:
        raise Unreachable(f"the guest took no settings in {timeout_seconds:g} s") from None
    except OSError as error:
        raise Unreachable(f"the guest took no settings: {error.strerror or error}") from error
    if answer != "ok":
        raise GuestFailed(f"the guest took no settings: {answer}")


async def _read_answer(loop: asyncio.AbstractEventLoop, stream: socket.socket, mark: bytes) -> str:
    received, skipped_bytes = b"", 0
    while True:
        chunk = await loop.sock_recv(stream, CHUNK_BYTES)
        skipped_bytes += len(chunk)
        received += chunk
        before, found, after = received.partition(mark)
        if found:
            line, ended, _ = after.partition(b"\r\n")
            if ended or len(line) > ANSWER_LIMIT_BYTES:
                return line[:ANSWER_LIMIT_BYTES].decode("utf-8", "replace")
            received = found + after
        else:
            received = before[-len(mark) + 1 :]
        if not chunk or skipped_bytes > SKIPPED_LIMIT_BYTES:
            raise Unreachable("the guest took no settings: it has said nothing of use")
