# SPDX-License-Identifier: Apache-2.0
"""The host answers its guest's connections to CID 2 by itself, where the hypervisor brings them out on this host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable

from volant.volantd.hypervisors.base import Machine

logger = logging.getLogger(__name__)


def open_listeners(machine: Machine, ports: Iterable[int], name: str) -> dict[int, socket.socket]:
    """By port; none where the agent listens in the guest. What cannot be opened is refused there, and told here."""
    found = {}
    for port in ports:
        try:
            listener = machine.listen_for_guest(port)
        except OSError as error:
            logger.warning("VM %s: cannot answer at port %d of CID 2: %s", name, port, error)
            continue
        if listener is not None:
            found[port] = listener
    return found


async def answer_at(listener: socket.socket, port: int, answer: Callable[[int], bytes | None]) -> None:
    """Whoever connects is sent `answer(port)`, then end-of-file; None closes the stream without a byte."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            content = answer(port)
            if content is not None:
                writer.write(content)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_unix_server(serve, sock=listener) as server:
        await server.serve_forever()
