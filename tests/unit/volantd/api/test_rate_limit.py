# SPDX-License-Identifier: Apache-2.0
"""Who asks too often is told when to come again, and nobody else is."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from volant.errors import TooManyRequests
from volant.volantd.api.access import Gate
from volant.volantd.api.rate_limit import MOST_BUCKETS, RateLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_as_many_as_come_in_with_time() -> None:
    clock = Clock()
    limiter = RateLimiter(2, clock)
    for _ in range(10):
        limiter.check("token ci")
    with pytest.raises(TooManyRequests, match="cannot answer token ci that often: 2 requests") as caught:
        limiter.check("token ci")
    assert (caught.value.retry_after_seconds, caught.value.resolution) == (1, "ask again in 1 s")
    limiter.check("token other")
    clock.now += 1
    limiter.check("token ci")
    limiter.check("token ci")
    with pytest.raises(TooManyRequests):
        limiter.check("token ci")
    clock.now += 1000
    for _ in range(10):
        limiter.check("token ci")
    with pytest.raises(TooManyRequests):
        limiter.check("token ci")


def test_no_limit_is_none() -> None:
    limiter = RateLimiter(0)
    for _ in range(10_000):
        limiter.check("token ci")


def test_many_clients_take_no_memory_and_take_nothing_from_one_who_asks_too_often() -> None:
    clock = Clock()
    limiter = RateLimiter(1, clock)
    for number in range(3 * MOST_BUCKETS):
        clock.now += 0.001
        limiter.check(f"uid {number}")
    assert len(limiter._buckets) <= MOST_BUCKETS
    for _ in range(4):
        limiter.check("uid 2999")
    for number in range(MOST_BUCKETS // 2):
        limiter.check(f"uid 9{number}")
    with pytest.raises(TooManyRequests):
        limiter.check("uid 2999")


async def ask(gate: Gate, uid: int | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "path": "/api/v1/vms", "method": "GET", "state": {"uid": uid},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await gate(scope, receive, send)
    shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], shown, sent[1]["body"]


async def test_a_token_and_strangers_have_limits_of_their_own() -> None:
    gate = Gate(PlainTextResponse("in"), "s3cret", limiter=RateLimiter(1, Clock()))
    known: dict[str, Any] = {"host": "localhost", "authorization": "Bearer s3cret"}
    stranger: dict[str, Any] = {"host": "localhost", "authorization": "Bearer guess"}
    assert [(await ask(gate, **stranger))[0] for _ in range(6)] == [401] * 5 + [429]
    assert [(await ask(gate, **known))[0] for _ in range(5)] == [200] * 5
    status, headers, body = await ask(gate, **known)
    assert (status, headers["retry-after"], json.loads(body)["code"]) == (429, "1", "too_many_requests")


async def test_the_daemons_own_user_has_none_on_its_socket_and_others_have() -> None:
    gate = Gate(PlainTextResponse("in"), None, limiter=RateLimiter(1, Clock()))
    for uid in (0, os.geteuid()):
        assert {(await ask(gate, uid))[0] for _ in range(50)} == {200}
    assert [(await ask(gate, 54321))[0] for _ in range(6)] == [200] * 5 + [429]
    assert [(await ask(gate, 54322))[0] for _ in range(5)] == [200] * 5
