# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.volantd.network.http_turns import HttpTurns

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def play(*said: bytes) -> HttpTurns:
    """What begins as an answer, or is marked by "<", the server says."""
    turns = HttpTurns()
    for data in said:
        if data.startswith((b"HTTP/", b"<")):
            turns.note_server(data.removeprefix(b"<"))
        else:
            turns.note_client(data)
    return turns


@pytest.mark.parametrize(
    "said",
    [
        [],
        [GET, OK],
        [GET, OK[:-4], b"<bo", b"<dy"],
        [GET, OK, GET, OK],
        [b"\r\n" + GET, OK],
        [POST, b"body", OK],
        [POST + b"body", OK],
        [POST, CONTINUE, b"body", OK],
        [GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK],
        [GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", OK],
        [b"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"],
        [GET, b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\n\r\n"],
        [b"M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n"],
    ],
)
def test_a_whole_answer_to_a_whole_request_leaves_nothing_under_way(said: list[bytes]) -> None:
    turns = play(*said)
    assert turns.is_over
    assert turns.may_begin(GET)
    assert not turns.may_begin(b"body")


@pytest.mark.parametrize(
    "said",
    [
        [GET],
        [GET, OK[:-1]],
        [GET, OK[:20]],
        [GET, CONTINUE],
        [POST, OK],
        [GET + GET, OK],
        [GET, GET, OK],
        [GET, OK + OK],
        [GET[:-1], OK],
        [GET, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"],
        [GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
        [GET, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"],
        [GET, b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody"],
        [b"GET / HTTP/1.1\r\nHost: a\r\nconnection: keep-alive, close\r\n\r\n", OK],
        [b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", OK[:-4]],
    ],
)
def test_what_may_go_on_is_not_taken_for_over(said: list[bytes]) -> None:
    assert not play(*said).is_over


@pytest.mark.parametrize(
    "said",
    [
        [b"\x16\x03\x01\x02\x00\x01"],
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        [b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"GET " + b"/" * 300_000],
        [b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
        [GET, CONTINUE + b"HTTP/1.1 101 Switching Protocols\r\n\r\n"],
        [b"<220 mail.example ESMTP\r\n"],
        [GET, b"<+OK\r\n"],
        [GET, OK, b"\x00\x01"],
        [GET, OK, GET, GET, b"<body that comes late"],
    ],
)
def test_another_protocol_stays_one(said: list[bytes]) -> None:
    turns = play(*said)
    assert not turns.is_http
    for data in (OK, GET, OK):
        (turns.note_server if data is OK else turns.note_client)(data)
    assert not turns.is_http and not turns.is_over and not turns.may_begin(GET)


@pytest.mark.parametrize("length", [b"9" * 19, b"9" * 5000, b"-1", b"+1", b"1, 1", b"0x4", b""])
def test_a_length_that_is_none_is_not_counted(length: bytes) -> None:
    assert not play(GET, b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nbody").is_over


def test_between_interim_and_final_answer_the_request_goes_on() -> None:
    turns = play(POST, CONTINUE)
    assert turns.awaits_more and not turns.may_begin(GET)
    turns.note_client(b"body")
    turns.note_server(OK)
    assert not turns.awaits_more and turns.is_over
