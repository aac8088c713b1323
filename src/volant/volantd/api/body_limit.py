# SPDX-License-Identifier: Apache-2.0
"""Bodies are measured while they arrive, before anything is parsed: JSON takes ten times its size in memory.

What is streamed instead (an uploaded plugin or snapshot, a request to a workload) is bounded elsewhere or not ours.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 4 * 1024 * 1024
_STREAMED = re.compile(
    r"/api/v1/(plugins|snapshots/import|volumes/restore|system/restore|vms/[^/]+/(files|proxy(/.*)?))",
    re.DOTALL,
)


class BodyLimit:
    def __init__(self, application: ASGIApp, most_bytes: int = MOST_BODY_BYTES) -> None:
        self._application = application
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_streamed(scope):
            await self._application(scope, receive, send)
            return
        received = 0
        declared = int(Headers(scope=scope).get("content-length", "0"))  # uvicorn has parsed it already

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if max(received, declared) > self._most_bytes:
                raise HTTPException(413, f"its body is larger than {self._most_bytes >> 20} MiB")
            return message

        await self._application(scope, receive_counted, send)


def is_streamed(scope: Scope) -> bool:
    """Whether the handler reads this body piece by piece."""
    match = _STREAMED.fullmatch(scope["path"])
    is_json = Headers(scope=scope).get("content-type", "").startswith("application/json")
    return match is not None and (match[1] != "plugins" or not is_json)
