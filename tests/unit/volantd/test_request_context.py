# SPDX-License-Identifier: Apache-2.0
"""A request's id is its task's own, and no part of what outlives it."""

from __future__ import annotations

import asyncio

from volant.volantd.request_context import (
    RequestContext,
    enter_request,
    find_request,
    find_request_id,
    note_target,
    outside_of_requests,
)


async def test_each_task_has_its_own_and_what_lives_on_has_none() -> None:
    seen: dict[str, str] = {}

    async def look(name: str) -> None:
        await asyncio.sleep(0)
        seen[name] = find_request_id()

    async def answer(name: str) -> None:
        enter_request(RequestContext(name))
        inside = asyncio.create_task(look(f"{name} inside"))
        background = outside_of_requests(asyncio.create_task, look(f"{name} background"))
        await asyncio.gather(inside, background)
        await look(name)

    await asyncio.gather(asyncio.create_task(answer("a")), asyncio.create_task(answer("b")))
    assert seen == {
        "a inside": "a",
        "a background": "",
        "a": "a",
        "b inside": "b",
        "b background": "",
        "b": "b",
    }
    assert find_request() is None


async def test_what_a_request_is_about_is_noted_in_it_and_nowhere_else() -> None:
    note_target("nobody's")
    enter_request(RequestContext("r1"))
    note_target("web")
    request = find_request()
    assert request is not None
    assert request.target == "web"
