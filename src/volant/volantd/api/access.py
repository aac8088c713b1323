# SPDX-License-Identifier: Apache-2.0
"""Who gets in. One wrapper per listener, because what is checked depends on how a request came.

The UNIX socket's file mode lets in its owner and group; without a group the kernel's word for who connected is checked
too, so that no wrong mode, bind mount or inherited descriptor opens it to others. TCP clients must show a token.
Neither lets in a web page: browsers send Origin or Sec-Fetch-* with whatever a page can start, and a Host that is not a
loopback name means that somebody's DNS name points here (rebinding).
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from volant.errors import NotPermitted, Unauthorized, VolantError
from volant.volantd.api.errors import make_reply
from volant.volantd.api.permissions import ADMIN
from volant.volantd.api.rate_limit import STRANGERS, RateLimiter
from volant.volantd.request_context import find_request
from volant.volantd.tokens.store import TokenStore

LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
# Guests' builds fetch the agent, probes ask for health: neither shows anything about VMs.
OPEN_PATHS = ("/healthz", "/kestrel/latest/")


@dataclass(frozen=True, slots=True)
class Identity:
    """`who` is "uid 1000" or "token NAME"; `rights` are a token's scope, or admin."""

    who: str
    rights: str


NOBODY = Identity("nobody", "none")


class Gate:
    """Wraps the application for one listener; `token` None: the UNIX socket, for `uids` (None: all)."""

    def __init__(
        self,
        application: ASGIApp,
        token: str | None,
        tokens: TokenStore | None = None,
        uids: Collection[int] | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._application = application
        self._token = token
        self._tokens = tokens
        self._uids = uids
        self._limiter = limiter or RateLimiter(0)
        self._unlimited = frozenset({f"uid {uid}" for uid in (0, os.geteuid())})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            try:
                scope["identity"] = identity = self._admit(scope)
            except VolantError as problem:
                if scope["type"] == "websocket":
                    await WebSocket(scope, receive, send).send_denial_response(make_reply(problem))
                else:
                    await make_reply(problem)(scope, receive, send)
                return
            if (request := find_request()) is not None:
                request.who = identity.who
        await self._application(scope, receive, send)

    def _admit(self, scope: Scope) -> Identity:
        """Who asks, and not too often."""
        try:
            identity = self._identify(scope)
        except (NotPermitted, Unauthorized):
            self._limiter.check(STRANGERS)
            raise
        if identity.who not in self._unlimited:
            self._limiter.check(STRANGERS if identity is NOBODY else identity.who)
        return identity

    def _identify(self, scope: Scope) -> Identity:
        headers = Headers(scope=scope)
        if any(name == b"origin" or name.startswith(b"sec-fetch-") for name, _ in scope["headers"]):
            raise NotPermitted(
                "cannot answer a web page: the API is for programs",
                resolution="use volar, curl or a client library",
            )
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        shown = shown if scheme.lower() == "bearer" else ""
        if self._token is None:
            return self._identify_peer(scope, shown)
        host = ", ".join(headers.getlist("host"))
        if LOOPBACK_HOST.fullmatch(host) is None:
            raise NotPermitted(f"cannot answer for the host name {host!r}: only loopback names are served")
        if scope["path"].startswith(OPEN_PATHS):
            return NOBODY
        if hmac.compare_digest(shown.encode(), self._token.encode()):
            return Identity("the daemon's token", ADMIN)
        found = self._find_token(shown)
        if found is None:
            raise Unauthorized(
                "cannot answer without a token that is known here",
                resolution="set VOLANT_TOKEN (Authorization: Bearer …)",
            )
        return found

    def _identify_peer(self, scope: Scope, shown: str) -> Identity:
        uid = scope.get("state", {}).get("uid")
        if self._uids is not None and uid not in self._uids:
            raise NotPermitted(
                f"cannot answer user {uid}: this volantd is another user's",
                resolution="use your own: unset VOLANT_API_BASE and --api",
            )
        # Who shows a token of this daemon's here wants no more than that.
        return self._find_token(shown) or Identity(f"uid {uid}", ADMIN)

    def _find_token(self, shown: str) -> Identity | None:
        """None for one that is unknown here; Unauthorized for one that has expired."""
        token = self._tokens.find(shown) if self._tokens is not None and shown else None
        return None if token is None else Identity(f"token {token.name}", token.scope)
