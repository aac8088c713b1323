# SPDX-License-Identifier: Apache-2.0
"""Who is let in on TCP: loopback names alone, with the token, and no web page."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from volant.volantd.api.access import Gate

TOKEN = "s3cret"
GOOD = {"host": "127.0.0.1:7777", "authorization": f"Bearer {TOKEN}"}


async def ask(path: str = "/api/v1/vms", token: str | None = TOKEN, **headers: str) -> int:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [
        (name.replace("_", "-").encode("latin-1"), one.encode("latin-1"))
        for name, value in headers.items()
        for one in value.split("|")  # a header that is there twice
    ]
    scope = {"type": "http", "path": path, "headers": raw, "method": "GET"}
    await Gate(PlainTextResponse("in"), token)(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]", "[::1]:7777"])
async def test_loopback_names_are_served(host: str) -> None:
    assert await ask(**{**GOOD, "host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "localhost.evil.example", "[::1]evil", "[::1]evil:80", "[::1", "127.0.0.1.evil",
        "127.0.0.1:",
        "127.0.0.1:x", "127.0.0.1:80:80", "localhost\n", "localhost:٣", "[::1]:1@evil",
        "localhost|evil.example", "localhost|localhost",
    ],
)  # fmt: skip
async def test_what_only_looks_like_one_is_not(host: str) -> None:
    host = host.encode("utf-8").decode("latin-1")
    assert await ask(**{**GOOD, "host": host}) == 403


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"]
)
async def test_without_the_token_nobody_gets_in(shown: str) -> None:
    assert await ask(**{**GOOD, "authorization": shown}) == 401


@pytest.mark.parametrize("header", ["origin", "sec_fetch_site", "sec_fetch_mode"])
@pytest.mark.parametrize("token", [TOKEN, None])
async def test_a_web_page_gets_in_nowhere(header: str, token: str | None) -> None:
    assert await ask(token=token, **GOOD, **{header: "null"}) == 403


async def test_the_socket_asks_for_no_token_and_health_for_none_either() -> None:
    assert await ask(token=None) == 200
    assert await ask("/healthz", host="localhost") == 200
    assert await ask("/healthz", host="evil.example") == 403
