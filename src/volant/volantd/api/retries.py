# SPDX-License-Identifier: Apache-2.0
"""The header Idempotency-Key of requests that make something."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from pydantic import BaseModel

from volant.volantd.request_context import find_who
from volant.volantd.vms.request_keys import RequestKey

IdempotencyKey = Annotated[
    str | None,
    Header(pattern=r"^[!-~]{1,200}$", description="the same for each try of one request, e.g. a UUID"),
]


def make_key(text: str | None, place: str, request: BaseModel) -> RequestKey | None:
    """`place` is what beside the body makes the request what it is: its path."""
    if text is None:
        return None
    return RequestKey(find_who(), text, f"{place}\n{request.model_dump_json()}".encode())
