# SPDX-License-Identifier: Apache-2.0
"""The proxy hands requests on as they came, whatever their paths spell."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, cast

import pytest
from starlette.requests import Request

from volant.errors import Conflict, InvalidInput, Unreachable
from volant.volantd.api.guests import MOST_STREAMS, Streams, find_target, forward


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        (b"/api/v1/vms/web/proxy/", b"", b"/"),
        (b"/api/v1/vms/web/proxy", b"", b"/"),
        (b"/api/v1/vms/web/proxy/a%20b/%C3%A9/c%2Fd", b"q=%26&r", b"/a%20b/%C3%A9/c%2Fd?q=%26&r"),
        (b"/api/v1/vms/proxy/proxy/vms/x/proxy/y", b"", b"/vms/x/proxy/y"),
    ],
)
def test_a_target_is_what_the_client_spelled(path: bytes, query: bytes, target: bytes) -> None:
    assert find_target(path, query) == target


class Written(bytearray):
    def write(self, data: bytes) -> None:
        self.extend(data)

    async def drain(self) -> None: ...


def make_request(headers: list[tuple[bytes, bytes]]) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"hello" if headers else b"", "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def make_reader(answer: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(answer)
    reader.feed_eof()
    return reader


async def test_a_request_is_handed_on_without_what_is_ours() -> None:
    written = Written()
    request = make_request(
        [
            (b"host", b"localhost"),
            (b"authorization", b"Bearer ours"),
            (b"x-theirs", b"1"),
            (b"content-length", b"5"),
        ]
    )
    reader = make_reader(
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
    )
    status, headers, body = await forward(reader, cast("Any", written), request, b"/a%20b", "web:80")
    assert (status, headers) == (201, [(b"Content-Length", b"2")])
    assert b"".join([chunk async for chunk in body]) == b"ok"
    sent = bytes(written)
    assert sent.startswith(b"POST /a%20b HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\nhello")
    assert b"x-theirs: 1" in sent.lower()
    assert b"ours" not in sent


async def test_a_target_that_cannot_be_sent_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidInput, match="cannot proxy"):
        await forward(make_reader(b""), cast("Any", Written()), make_request([]), b"/a b", "web:80")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n"])
async def test_a_workload_that_speaks_no_http_is_unreachable(answer: bytes) -> None:
    with pytest.raises(Unreachable, match="cannot proxy"):
        await forward(make_reader(answer), cast("Any", Written()), make_request([]), b"/", "web:80")


def test_a_vm_has_so_many_streams_and_no_more() -> None:
    streams = Streams()
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_STREAMS):
            stack.enter_context(streams.count("web"))
        with pytest.raises(Conflict, match="which is the most"), streams.count("web"):
            pass
        with streams.count("other"):
            pass
    with streams.count("web"):
        assert streams._open == {"web": 1}
    assert streams._open == {}
