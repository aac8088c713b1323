# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.kubernetes.spdy import DICTIONARY, SYN_REPLY, SYN_STREAM, SpdyConnection, SpdyError, Stream


class Client:
    """The other side, by the draft's own words."""

    def __init__(self) -> None:
        self.sent, self.streams = b"", list[Stream]()
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self.connection = SpdyConnection(self._take, self.streams.append)

    async def _take(self, content: bytes) -> None:
        self.sent += content

    def open(self, number: int, flags: int = 0, **headers: str) -> bytes:
        plain = struct.pack(">I", len(headers)) + b"".join(
            struct.pack(">I", len(word)) + word.encode() for pair in headers.items() for word in pair
        )
        block = self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIBB", number, 0, 0, 0) + block
        return struct.pack(">HHI", 0x8003, SYN_STREAM, flags << 24 | len(body)) + body


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@pytest.mark.asyncio
@given(cut=st.integers(1, 60))
async def test_streams_are_opened_answered_and_carry_data_wherever_bytes_are_cut(cut: int) -> None:
    client = Client()
    content = (
        client.open(1, streamtype="error", port="80", requestid="0")
        + client.open(3, streamtype="data", port="80", requestid="0")
        + struct.pack(">II", 3, 5) + b"hello" + struct.pack(">II", 3, 1 << 24)
    )  # fmt: skip
    for start in range(0, len(content), cut):
        await client.connection.feed(content[start : start + cut])
    error, data = client.streams
    assert (error.headers["streamtype"], data.headers["port"]) == ("error", "80")
    assert struct.unpack(">HH", client.sent[:4]) == (0x8003, SYN_REPLY)
    assert data.incoming.get_nowait() == b"hello"
    assert data.incoming.get_nowait() is None
    client.sent = b""
    await data.send(b"world", is_last=True)
    assert client.sent == struct.pack(">II", 3, 1 << 24 | 5) + b"world"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">HHI", 0x8002, SYN_STREAM, 0),
        struct.pack(">HHI", 0x8003, SYN_STREAM, 4) + bytes(4),
        struct.pack(">HHI", 0x8003, SYN_STREAM, 20) + bytes(10) + b"not zlib..",
        struct.pack(">II", 1, 0xFFFFFF) + bytes(20),
    ],
)
async def test_what_is_no_frame_ends_the_connection(content: bytes) -> None:
    with pytest.raises(SpdyError):
        await Client().connection.feed(content)


@pytest.mark.asyncio
async def test_headers_that_unfold_without_end_are_refused() -> None:
    client = Client()
    with pytest.raises(SpdyError, match="too long"):
        await client.connection.feed(client.open(1, long="a" * (1 << 20)))
