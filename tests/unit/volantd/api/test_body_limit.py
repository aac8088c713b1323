# SPDX-License-Identifier: Apache-2.0
"""A body is refused before it is read whole, unless it is one that is streamed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from volant.volantd.api.body_limit import BodyLimit, is_streamed

OPENAPI = json.loads((Path(__file__).parents[4] / "docs" / "reference" / "openapi.json").read_text())
# Acts that the path says all of.
NO_BODY = ("enable", "disable", "pause", "unpause", "suspend", "resume", "links")


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    del scope
    while (await receive()).get("more_body"):
        pass
    await send({"type": "done"})


async def run(path: str, *chunks: int, **headers: str) -> int:
    """How many chunks were taken."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": bytes(chunks[taken - 1]), "more_body": taken < len(chunks)}

    async def send(_message: Message) -> None:
        pass

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await BodyLimit(read_all, 1000)({"type": "http", "path": path, "headers": raw}, receive, send)
    return taken


async def test_a_small_body_passes() -> None:
    assert await run("/api/v1/vms", 500, 500) == 2


async def test_a_large_one_is_refused_where_it_grows_too_large() -> None:
    with pytest.raises(HTTPException) as caught:
        await run("/api/v1/vms", 600, 600, 10**9)
    assert caught.value.status_code == 413


async def test_one_that_says_so_is_refused_at_once() -> None:
    with pytest.raises(HTTPException):
        await run("/api/v1/vms", 1, content_length="1001")


@pytest.mark.parametrize("path", ["/api/v1/plugins", "/api/v1/vms/web/proxy", "/api/v1/vms/web/proxy/a\nb"])
async def test_uploads_and_requests_to_workloads_are_streamed(path: str) -> None:
    assert await run(path, 5000, 5000) == 2


def test_every_body_that_is_no_json_is_streamed() -> None:
    others = {
        path
        for path, operations in OPENAPI["paths"].items()
        for method, operation in operations.items()
        if method in ("post", "put") and "requestBody" not in operation and not path.endswith(NO_BODY)
    }
    assert "/api/v1/volumes/restore" in others
    assert [path for path in others if not is_streamed({"type": "http", "path": path, "headers": []})] == []


async def test_the_json_form_of_an_upload_is_not() -> None:
    with pytest.raises(HTTPException):
        await run("/api/v1/plugins", 5000, content_type="application/json")
