# SPDX-License-Identifier: Apache-2.0
"""The page's door lets in this daemon's own page with its session, and nobody else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from volant.volantd.api.access import Identity
from volant.volantd.api.page_door import COOKIE, PageDoor
from volant.volantd.api.permissions import ADMIN
from volant.volantd.dashboard.page import Page


class Reply:
    def __init__(self, sent: list[Message]) -> None:
        self.status = int(sent[0]["status"])
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in sent[1:])


class Door:
    """A door before an application that tells what it was asked."""

    def __init__(self, built: Path) -> None:
        self.page = Page(built)
        self.page.port = 7000
        self.asked: list[Scope] = []
        self.door = PageDoor(self._application, self.page)
        self.cookie = f"{COOKIE}={self.page.sessions.redeem(self.page.sessions.make_code('uid 1'))}"

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        await PlainTextResponse("in")(scope, receive, send)

    async def ask(
        self, path: str, method: str = "GET", *, kind: str = "http", body: bytes = b"", **headers: str | None
    ) -> Reply:
        sent: list[Message] = []
        given = {"host": self.page.host, "cookie": self.cookie, **headers}
        raw = [
            (name.replace("_", "-").encode(), text.encode())
            for name, text in given.items()
            if text is not None
        ]
        scope: Any = {
            "type": kind,
            "path": path,
            "raw_path": path.encode(),
            "headers": raw,
            "query_string": b"",
        }
        if kind == "http":
            scope["method"] = method
        else:
            scope["extensions"] = {"websocket.http.response": {}}

        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return messages.pop() if messages else await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(message)

        await self.door(scope, receive, send)
        return Reply(sent)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "assets" / "main-1.js").write_text("1")
    return Door(tmp_path)


async def test_the_page_reads_and_changes_with_its_session(door: Door) -> None:
    own = door.page.origin
    assert (await door.ask("/api/v1/vms", sec_fetch_site="same-origin")).status == 200
    assert (await door.ask("/api/v1/vms", "POST", origin=own, sec_fetch_site="same-origin")).status == 200
    assert (await door.ask("/api/v1/vms/web/console", kind="websocket", origin=own)).status == 200


async def test_the_application_never_sees_the_cookie(door: Door) -> None:
    await door.ask("/api/v1/vms", accept="*/*")
    assert [name for name, _ in door.asked[0]["headers"]] == [b"host", b"accept"]
    assert door.asked[0]["identity"] == Identity("uid 1, dashboard", ADMIN)


@pytest.mark.parametrize("cookie", [None, "", f"{COOKIE}=", f"{COOKIE}=guess", "other=1"])
async def test_without_a_session_only_the_files_are_there(door: Door, cookie: str | None) -> None:
    assert (await door.ask("/api/v1/vms", cookie=cookie)).status == 401
    assert (await door.ask("/", cookie=cookie)).status == 200
    assert (await door.ask("/assets/main-1.js", cookie=cookie)).status == 200
    assert door.asked == []


@pytest.mark.parametrize(
    "host", [None, "", "localhost:7000", "127.0.0.1:7000", "evil.example", "volant.localhost:7000"]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/vms", "/session"])
async def test_another_host_name_is_refused(door: Door, host: str | None, path: str) -> None:
    assert (await door.ask(path, host=host)).status == 403
    assert door.asked == []


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "http://127.0.0.1:7000", "https://{host}", "http://{host}.x"]
)
async def test_another_origin_is_refused(door: Door, origin: str) -> None:
    origin = origin.format(host=door.page.host)
    for method in ("GET", "POST", "DELETE"):
        assert (await door.ask("/api/v1/vms", method, origin=origin)).status == 403
    assert (await door.ask("/api/v1/vms/web/console", kind="websocket", origin=origin)).status == 403
    assert (await door.ask("/session", "POST", origin=origin)).status == 403
    assert door.asked == []


async def test_what_changes_something_must_say_where_it_comes_from(door: Door) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert (await door.ask("/api/v1/vms", method)).status == 403
    assert (await door.ask("/api/v1/vms/web/console", kind="websocket")).status == 403
    assert door.asked == []


@pytest.mark.parametrize("site", ["none", "same-site", "cross-site", ""])
async def test_a_link_from_elsewhere_reads_nothing(door: Door, site: str) -> None:
    assert (await door.ask("/api/v1/vms", sec_fetch_site=site)).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/vms/web/proxy/",
        "/api/v1/vms/web/proxy",
        "/api/v1/vms/a%2Fb/proxy/x",
        "/api/v1/dashboard/links",
        "/api/v1/tokens/x",
        "/api/v1/tokens",
        "/api/v1/system/backup",
    ],
)
async def test_guests_pages_and_further_links_are_not_to_be_had(door: Door, path: str) -> None:
    assert (await door.ask(path, sec_fetch_site="same-origin")).status == 403
    assert (await door.ask(path, "POST", origin=door.page.origin)).status == 403
    assert door.asked == []


async def test_nothing_outside_the_api_is_passed_on(door: Door) -> None:
    for path in (
        "/metrics",
        "/healthz",
        "/kestrel/latest/linux-amd64",
        "/openapi.json",
        "/api/v1",
        "/api/v2/vms",
    ):
        assert (await door.ask(path)).status == 404
    assert door.asked == []


async def test_every_reply_keeps_the_page_to_itself(door: Door) -> None:
    for path in ("/", "/assets/main-1.js", "/api/v1/vms", "/none"):
        headers = (await door.ask(path)).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "unsafe" not in headers["content-security-policy"]
    assert (await door.ask("/api/v1/vms")).headers["cache-control"] == "no-store"
    assert "immutable" in (await door.ask("/assets/main-1.js")).headers["cache-control"]
    assert (await door.ask("/")).headers["cache-control"] == "no-cache"


async def test_a_code_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(door: Door) -> None:
    code = door.page.sessions.make_code("uid 1")
    body = json.dumps({"code": code}).encode()
    reply = await door.ask("/session", "POST", body=body, origin=door.page.origin, cookie=None)
    assert reply.status == 200
    cookie, *attributes = (part.strip() for part in reply.headers["set-cookie"].split(";"))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    assert (await door.ask("/api/v1/vms", cookie=cookie)).status == 200
    again = await door.ask("/session", "POST", body=body, origin=door.page.origin, cookie=None)
    assert again.status == 401
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"{", b'{"code": 1}', b'{"code": "x"}', b"\xff", b" " * 5000]
)
async def test_what_is_no_code_opens_nothing(door: Door, body: bytes) -> None:
    reply = await door.ask("/session", "POST", body=body, origin=door.page.origin, cookie=None)
    assert reply.status == 401


async def test_signing_out_ends_the_session(door: Door) -> None:
    assert (await door.ask("/session", "DELETE", origin=door.page.origin)).status == 204
    assert (await door.ask("/api/v1/vms")).status == 401
