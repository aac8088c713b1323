# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from starlette.exceptions import HTTPException

from volant.errors import NotFound
from volant.volantd.api.errors import as_volant_error, make_reply


def test_words_that_quote_half_a_surrogate_pair_can_be_sent() -> None:
    reply = make_reply(NotFound("cannot find \ud800", details=["label \udfff"], resolution="\ud800"))
    said = json.loads(bytes(reply.body))
    assert said["error"] == r"cannot find \ud800"
    assert said["details"] == [r"label \udfff"]


def test_a_body_that_is_too_large_has_a_code_of_its_own() -> None:
    error = as_volant_error(HTTPException(413, "its body is larger than 4 MiB"))
    assert (error.code, error.http_status, error.exit_code) == ("too_large", 413, 3)
