# SPDX-License-Identifier: Apache-2.0
"""The one translator of errors into replies `{error, code, details, resolution}`."""

from __future__ import annotations

import logging
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from volant.contract.api import ErrorReply
from volant.errors import Conflict, InvalidInput, NotFound, TooLarge, TooManyRequests, UsageError, VolantError
from volant.volantd.request_context import find_request, find_request_id

logger = logging.getLogger(__name__)


def as_volant_error(error: Exception) -> VolantError:
    """Any exception as one of ours; what nobody foresaw becomes "internal" without its insides."""
    if isinstance(error, VolantError):
        return error
    if isinstance(error, (RequestValidationError, WebSocketRequestValidationError, ValidationError)):
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'] if part != 'body')}: {problem['msg']}".lstrip(
                ": "
            )
            for problem in error.errors()
        ]
        return InvalidInput("cannot accept the request: some of its values are wrong", details=problems)
    if isinstance(error, HTTPException):
        kind = {404: NotFound, 409: Conflict, 413: TooLarge}.get(error.status_code, UsageError)
        return kind(f"cannot answer the request: {error.detail}")
    logger.error("a request failed unexpectedly", exc_info=error)
    return VolantError(
        f"volantd failed unexpectedly: {type(error).__name__}",
        resolution="see the daemon's log and report it",
    )


def make_reply(error: VolantError, status: int | None = None) -> JSONResponse:
    reply = ErrorReply(
        error=as_text(error.what),
        code=error.code,
        details=[as_text(line) for line in error.details],
        resolution=as_text(error.resolution),
        request_id=find_request_id(),
    )
    if (request := find_request()) is not None:
        request.error = error.code
    headers = {"Retry-After": str(error.retry_after_seconds)} if isinstance(error, TooManyRequests) else None
    return JSONResponse(reply.model_dump(), status_code=status or error.http_status, headers=headers)


def as_text(words: str) -> str:
    """Words that may quote a client: what UTF-8 cannot hold is spelled out."""
    return words.encode("utf-8", "backslashreplace").decode()


async def translate(connection: HTTPConnection, error: Exception) -> Response | None:
    """The reply to a request. A WebSocket is answered here: its opening refused, an open one closed with the reason."""
    translated = as_volant_error(error)
    status = error.status_code if isinstance(error, HTTPException) else None
    reply = make_reply(translated, status)
    if isinstance(connection, WebSocket):
        if connection.client_state is WebSocketState.CONNECTING:
            await connection.send_denial_response(reply)
        elif connection.application_state is WebSocketState.CONNECTED:
            await connection.close(1011, translated.what[:120])
        return None
    return reply


def install_translator(application: FastAPI) -> None:
    for kind in (
        VolantError,
        RequestValidationError,
        WebSocketRequestValidationError,
        ValidationError,
        HTTPException,
        Exception,
    ):
        # Its type is a handler's of requests or of WebSockets, and this is both.
        application.add_exception_handler(kind, cast("Any", translate))
