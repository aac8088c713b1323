# SPDX-License-Identifier: Apache-2.0
"""The dashboard's door: the one listener that lets a web page in, and only this daemon's own.

The page's files are public; the API behind it takes the session's cookie, and from a browser only what this very page
asks for: the Host is the listener's own name (no other name points here), Origin and Sec-Fetch-Site are the page's
own, and what changes something, or opens a WebSocket, says so. Pages of guests are never served from here: they would
be of the same origin.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from volant.errors import NotFound, NotPermitted, Unauthorized, VolantError
from volant.volantd.api.access import Identity
from volant.volantd.api.errors import make_reply
from volant.volantd.api.permissions import ADMIN
from volant.volantd.dashboard.page import Page
from volant.volantd.dashboard.sessions import SESSION_SECONDS
from volant.volantd.request_context import find_request

COOKIE = "volant_session"
SESSION_PATH = "/session"
MOST_CODE_BYTES = 1024
SAFE_METHODS = ("GET", "HEAD")
# What a guest answers would run as this page. A session makes nothing that outlives it: links, tokens, copies of keys.
_CLOSED = re.compile(r"/api/v1/(vms/[^/]+/proxy|dashboard|tokens|system/(backup|restore))(/.*)?", re.DOTALL)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageDoor:
    """Wraps the application for the page's listener."""

    def __init__(self, application: ASGIApp, page: Page) -> None:
        self._application = application
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        connection = HTTPConnection(scope)
        path: str = scope["path"]
        guarded = _guard(send, PAGE_POLICY if self._page.find_file(path) else DATA_POLICY)
        try:
            self._check_place(connection)
            if path.startswith("/api/v1/"):
                scope["identity"] = self._identify(connection)
                await self._application(_without_cookie(scope), receive, guarded)
                return
            reply = await self._answer(scope, receive)
        except VolantError as error:
            reply = make_reply(error)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, guarded).send_denial_response(reply)
        else:
            await reply(scope, receive, guarded)

    def _check_place(self, connection: HTTPConnection) -> None:
        """Asked for under the page's own name, and not by another page."""
        headers = connection.headers
        if headers.get("host") != self._page.host:
            raise NotPermitted("cannot answer for this host name: the dashboard has another one")
        is_unsafe = connection.scope["type"] == "websocket" or connection.scope["method"] not in SAFE_METHODS
        if headers.get("origin", None if is_unsafe else self._page.origin) != self._page.origin:
            raise NotPermitted("cannot answer another page: only the dashboard itself is let in")

    def _identify(self, connection: HTTPConnection) -> Identity:
        """Whose session it is; it may do all that its owner may, who was an administrator."""
        if connection.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise NotPermitted("cannot answer another page: only the dashboard itself is let in")
        who = self._page.sessions.find_owner(connection.cookies.get(COOKIE, ""))
        if who is None:
            raise Unauthorized(
                "cannot answer: this browser has no session, or it has ended",
                resolution="open the page again: volar dashboard",
            )
        if _CLOSED.fullmatch(connection.scope["path"]):
            raise NotPermitted("cannot answer a web page here", resolution="use volar or curl")
        if (request := find_request()) is not None:
            request.who = f"{who}, dashboard"
        return Identity(f"{who}, dashboard", ADMIN)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["type"] == "http" and scope["path"] == SESSION_PATH:
            return await self._change_session(Request(scope, receive))
        found = self._page.find_file(scope["path"])
        if found is None or scope["type"] != "http" or scope["method"] not in SAFE_METHODS:
            raise NotFound(f"cannot find {scope['path'][:200]}: the dashboard has no such file")
        return _make_file_reply(found)

    async def _change_session(self, request: Request) -> Response:
        """POST {code} begins a session, DELETE ends it; both answer with the cookie as it is from then on."""
        sessions = self._page.sessions
        if request.method == "DELETE":
            sessions.close(request.cookies.get(COOKIE, ""))
            reply = Response(status_code=HTTPStatus.NO_CONTENT)
            reply.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
            return reply
        session = sessions.redeem(await _read_code(request)) if request.method == "POST" else None
        if session is None:
            raise Unauthorized(
                "cannot open the dashboard: this link was used already, or is too old",
                resolution="get another one: volar dashboard",
            )
        reply = JSONResponse({"seconds": SESSION_SECONDS})
        reply.set_cookie(COOKIE, session, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict")
        return reply


async def _read_code(request: Request) -> str:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_CODE_BYTES:
            return ""
    try:
        given = json.loads(content)
    except ValueError:
        return ""
    code = given.get("code") if isinstance(given, dict) else None
    return code if isinstance(code, str) else ""


def _make_file_reply(path: Path) -> FileResponse:
    """The page is asked for anew each time; its parts are named by their content."""
    lasting = path.parent.name == "assets"
    return FileResponse(
        path, headers={"Cache-Control": "max-age=31536000, immutable" if lasting else "no-cache"}
    )


def _guard(send: Send, policy: str) -> Send:
    """Every reply carries what tells a browser to keep this page to itself."""

    async def send_guarded(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            headers.update({**ALWAYS, "Content-Security-Policy": policy})
            headers.setdefault("Cache-Control", "no-store")
            message["headers"] = headers.raw
        await send(message)

    return send_guarded


def _without_cookie(scope: Scope) -> Scope:
    """The application never sees the cookie, and so passes it on to nobody."""
    kept = [(name, value) for name, value in Headers(scope=scope).raw if name != b"cookie"]
    return {**scope, "headers": kept}
