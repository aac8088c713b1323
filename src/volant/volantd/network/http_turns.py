# SPDX-License-Identifier: Apache-2.0
"""Where a connection stands if it speaks HTTP/1.x: whether a request is under way on it, or nothing is.

What is said is looked at where the turn changes, and counted from there on: a request has to begin as one, an answer as
one. What once does not (TLS, HTTP/2, WebSockets, databases) is a stream of its own, and stays one.
"""

from __future__ import annotations

import re

# RFC 9112, sections 2.2 (an empty line may come before a request), 3 and 4; after CONNECT comes somebody else's stream.
_REQUEST = re.compile(rb"(?:\r\n)?(?!CONNECT )[A-Z][A-Z-]* [^\s]+ HTTP/1\.[01]\r\n")
_ANSWER = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
# An end that is not counted in bytes: chunks, or that of the connection (section 9.3), which the client then waits for.
_UNCOUNTED = re.compile(rb"\r\ntransfer-encoding:|\r\nconnection:[^\r]*close|HTTP/1\.0[ \r]", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_SWITCHED = b"101"
_BODILESS = (b"204", b"304")


class HttpTurns:
    def __init__(self) -> None:
        self.is_http = True
        """Nothing has contradicted it yet."""
        self.awaits_more = False
        """The last answer was an interim one (100, 103): the request goes on, or the answer does."""
        self._has_asked = False
        self._is_asking = False
        self._request_rest: int | None = 0
        self._answer_rest: int | None = 0
        """Bytes that are still to come; less than 0 where more than one was sent, None where that cannot be told."""

    @property
    def is_over(self) -> bool:
        """Whether a whole request has its whole answer, or nothing was said yet: for certain, not by their silence."""
        return self.is_http and not self.awaits_more and self._request_rest == 0 == self._answer_rest

    def may_begin(self, data: bytes) -> bool:
        """Whether this, which a client says now, is its next request."""
        return self.is_http and not (self._is_asking or self.awaits_more) and bool(_REQUEST.match(data))

    def note_client(self, data: bytes) -> None:
        if self._is_asking or self.awaits_more:
            if self._request_rest is not None:
                self._request_rest -= len(data)
        else:
            self.is_http = self.may_begin(data)
            self._request_rest = _measure(data, 0, 0) if self.is_http else None
            # Nothing of the answer was seen yet.
            self._answer_rest = None
        self._has_asked = self._is_asking = True

    def note_server(self, data: bytes) -> None:
        if not self.is_http:
            return
        if not self._has_asked:
            self.is_http = False
        elif self._is_asking or self.awaits_more:
            self._is_asking = False
            self._read_answer(data)
        elif self._answer_rest is not None:
            self._answer_rest -= len(data)

    def _read_answer(self, data: bytes) -> None:
        """The final one may come with interim ones before it."""
        start = 0
        while (found := _ANSWER.match(data, start)) and found[1] != _SWITCHED:
            self.awaits_more = found[1].startswith(b"1")
            if not self.awaits_more:
                self._answer_rest = _measure(data, start, 0 if found[1] in _BODILESS else None)
                return
            head_end = data.find(_HEAD_END, start)
            start = head_end + len(_HEAD_END)
            if head_end < 0 or start == len(data):
                return
        self.is_http = self.awaits_more = False


def _measure(data: bytes, start: int, unsaid: int | None) -> int | None:
    """How much of the message that begins there is still to come; `unsaid`: the length of a body where its head says
    nothing of one."""
    head_end = data.find(_HEAD_END, start)
    if head_end < 0 or _UNCOUNTED.search(data, start, head_end + 2):
        return None
    found = _LENGTH.search(data, start, head_end + 2)
    length = int(found[1]) if found else unsaid
    return None if length is None else length - (len(data) - head_end - len(_HEAD_END))
