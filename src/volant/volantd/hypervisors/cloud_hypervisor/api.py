# SPDX-License-Identifier: Apache-2.0
"""Cloud Hypervisor's REST API on its UNIX socket (docs/api.md there), one request a connection.

By the standard library's client: a NIC's tap device is passed with the request's first bytes (SCM_RIGHTS), which no
client library for HTTP can, and there is nothing else in this API that would want one.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volant.errors import ToolFailed, Unreachable

ROOT = "/api/v1"
# Writing a large machine's memory is one request.
TIMEOUT_SECONDS = 120.0
MOST_ANSWER_BYTES = 4 << 20


class _Connection(http.client.HTTPConnection):
    """To a UNIX socket; `descriptors` go with the first bytes."""

    def __init__(self, path: Path, descriptors: Sequence[int], timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._descriptors = list(descriptors)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._descriptors:
            sent = socket.send_fds(self.sock, [data], self._descriptors)
            self._descriptors, data = [], data[sent:]
        self.sock.sendall(data)


class VmmApi:
    """Each call raises Unreachable where nobody answers, ToolFailed with Cloud Hypervisor's own words."""

    def __init__(self, path: Path, name: str) -> None:
        """`name`: the VM's, for errors."""
        self._path = path
        self._name = name

    async def get(self, act: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """What `vmm.ping`, `vm.info` or `vm.counters` say."""
        answer = await asyncio.to_thread(self._ask, "GET", act, None, (), timeout_seconds)
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ToolFailed(f"cannot {act} {self._name}: Cloud Hypervisor's answer is no JSON object")
        return document

    async def put(
        self,
        act: str,
        document: object = None,
        *,
        descriptors: Sequence[int] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        await asyncio.to_thread(self._ask, "PUT", act, document, descriptors, timeout_seconds)

    def _ask(
        self, method: str, act: str, document: object, descriptors: Sequence[int], timeout_seconds: float
    ) -> bytes:
        body = None if document is None else json.dumps(document).encode()
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
        connection = _Connection(self._path, descriptors, timeout_seconds)
        try:
            connection.request(method, f"{ROOT}/{act}", body, headers)
            response = connection.getresponse()
            content = response.read(MOST_ANSWER_BYTES)
            if response.length:
                raise http.client.IncompleteRead(content, response.length)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"cannot {act} {self._name}: its Cloud Hypervisor does not answer: {error}"
            ) from error
        finally:
            connection.close()
        if response.status >= 300:
            raise ToolFailed(f"cannot {act} {self._name}: {explain(content) or response.reason}")
        return content


def explain(content: bytes) -> str:
    """An error's body: a JSON list, from the outermost cause to the innermost; older versions send plain text."""
    text = content.decode("utf-8", "replace").strip()
    try:
        causes = json.loads(text)
    except ValueError:
        return text
    return ": ".join(str(cause) for cause in causes) if isinstance(causes, list) else text
