# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from fastapi import FastAPI
from fastapi.websockets import WebSocket
from starlette.exceptions import HTTPException
from starlette.types import Message

from volant.errors import NotFound
from volant.volantd.api.errors import as_volant_error, install_translator, make_reply


def test_words_that_quote_half_a_surrogate_pair_can_be_sent() -> None:
    reply = make_reply(NotFound("cannot find \ud800", details=["label \udfff"], resolution="\ud800"))
    said = json.loads(bytes(reply.body))
    assert said["error"] == r"cannot find \ud800"
    assert said["details"] == [r"label \udfff"]


def test_a_body_that_is_too_large_has_a_code_of_its_own() -> None:
    error = as_volant_error(HTTPException(413, "its body is larger than 4 MiB"))
    assert (error.code, error.http_status, error.exit_code) == ("too_large", 413, 3)


@pytest.mark.parametrize(
    ("accepted", "sent_types"),
    [
        (False, ["websocket.http.response.start", "websocket.http.response.body"]),
        (True, ["websocket.accept", "websocket.close"]),
    ],
)
async def test_a_websocket_is_answered_once(accepted: bool, sent_types: list[str]) -> None:
    application = FastAPI()
    install_translator(application)

    @application.websocket("/")
    async def fail(websocket: WebSocket) -> None:
        if accepted:
            await websocket.accept()
        raise NotFound("cannot find it")

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": [], "root_path": "",
        "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    await application(scope, receive, send)
    assert [message["type"] for message in sent] == sent_types
