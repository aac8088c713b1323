# SPDX-License-Identifier: Apache-2.0
"""Who gets in. One wrapper per listener, because what is checked depends on how a request came.

The UNIX socket's file mode lets in its owner and group. TCP clients must show the token. Neither lets in a web page:
browsers send Origin or Sec-Fetch-* with whatever a page can start, and a Host that is not a loopback name means that
somebody's DNS name points here (rebinding).
"""

from __future__ import annotations

import hmac
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from volant.errors import NotPermitted, Unauthorized, VolantError
from volant.volantd.api.errors import make_reply

LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
# Guests' builds fetch the agent, probes ask for health: neither shows anything about VMs.
OPEN_PATHS = ("/healthz", "/kestrel/latest/")


class Gate:
    """Wraps the application for one listener; `token` None: the UNIX socket."""

    def __init__(self, application: ASGIApp, token: str | None) -> None:
        self._application = application
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            problem = self._find_problem(Headers(scope=scope), scope["path"])
            if problem is not None:
                if scope["type"] == "websocket":
                    await WebSocket(scope, receive, send).send_denial_response(make_reply(problem))
                else:
                    await make_reply(problem)(scope, receive, send)
                return
        await self._application(scope, receive, send)

    def _find_problem(self, headers: Headers, path: str) -> VolantError | None:
        if "origin" in headers or any(name.startswith("sec-fetch-") for name in headers):
            return NotPermitted(
                "cannot answer a web page: the API is for programs",
                resolution="use volar, curl or a client library",
            )
        if self._token is None:
            return None
        host = headers.get("host", "")
        if LOOPBACK_HOST.fullmatch(host) is None:
            return NotPermitted(f"cannot answer for the host name {host!r}: only loopback names are served")
        if path.startswith(OPEN_PATHS):
            return None
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.encode(), self._token.encode()):
            return Unauthorized(
                "cannot answer without the token",
                resolution="give it in VOLANT_TOKEN (Authorization: Bearer …)",
            )
        return None
