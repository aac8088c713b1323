# SPDX-License-Identifier: Apache-2.0
"""What is written down of requests: an id for each, a line for what failed, measures, and the audit log.

`Journal` is the outermost wrapper of a listener, so that even a refusal has an id, and alone looks at replies;
`Auditor` stands behind the gate, where it is known who asks. Who was not let in is counted, not audited: strangers must
not fill the log.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from volant.volantd.api.metrics import RequestMetrics
from volant.volantd.audit import AuditLog, make_entry
from volant.volantd.request_context import RequestContext, enter_request, find_request

logger = logging.getLogger(__name__)

HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})


def find_route(scope: Scope) -> str:
    """The path of the route that answered, without the parameters' values; empty where none did."""
    path: str = getattr(scope.get("route"), "path", "")
    return path.removeprefix("/api/v1")


def find_action(scope: Scope) -> str:
    """The operation's name, as `operationId` of the API's description has it."""
    route = scope.get("route")
    if route is None:
        return ""
    return "_".join([*(str(tag) for tag in getattr(route, "tags", ())), route.name])


class Journal:
    def __init__(self, application: ASGIApp, metrics: RequestMetrics) -> None:
        self._application = application
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        request = RequestContext(choose_id(scope["headers"]))
        enter_request(request)
        identity = (HEADER, request.id.encode())
        began = time.perf_counter()

        async def send_noted(message: Message) -> None:
            if message["type"] in _STARTS:
                request.status = message.get("status", 101)
                message["headers"] = [*message.get("headers", ()), identity]
            await send(message)

        with self._metrics.count_open():
            try:
                await self._application(scope, receive, send_noted)
            finally:
                seconds = time.perf_counter() - began
                method = scope.get("method", "WEBSOCKET")
                self._metrics.observe(method, find_route(scope), request.status, seconds)
                level = logging.WARNING if request.status >= 500 else logging.DEBUG
                # As it was sent: decoded, it may hold a line's end.
                path = scope.get("raw_path", b"").decode("latin-1")
                logger.log(level, "%s %s by %s: %d", method, path, request.who or "nobody", request.status)


def choose_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's own where it has given one that fits into a log line."""
    for name, value in headers:
        if name == HEADER and _ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(8)


class Auditor:
    def __init__(self, application: ASGIApp, audit: AuditLog) -> None:
        self._application = application
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = find_request()
        if request is None or (scope["type"] == "http" and scope["method"] in READING):
            await self._application(scope, receive, send)
            return
        method = scope.get("method", "WEBSOCKET")
        entry = make_entry(request.id, request.who, f"{method} {scope['path']}", "")
        if not is_proxied(scope):
            self._audit.add("received", entry)
        began = time.perf_counter()
        try:
            await self._application(scope, receive, send)
        finally:
            if not is_proxied(scope):
                parameters: Mapping[str, Any] = scope.get("path_params") or {}
                complete = replace(
                    entry, action=find_action(scope) or entry.action, status=request.status, error=request.error,
                    target=str(request.target or parameters.get("name", "")),
                    milliseconds=round(1000 * (time.perf_counter() - began)),
                )  # fmt: skip
                self._audit.add("complete", complete)


def is_proxied(scope: Scope) -> bool:
    """What a workload is asked through the proxy is the workload's affair."""
    return re.match(r"/api/v1/vms/[^/]+/proxy(/|$)", scope["path"]) is not None
