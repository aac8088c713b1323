# SPDX-License-Identifier: Apache-2.0
"""Streams of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00), as far as kubectl's port-forward speaks it: it has no other way.

No library of it is kept any more. Flow control is left out, as Kubernetes' own implementation leaves it out.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping

# Section 2.6.10.1: words with their lengths, and a tail. Its Adler-32 is 0xe3c6a7c2.
_WORDS = (
    "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,accept-ranges,age,allow,"
    "authorization,cache-control,connection,content-base,content-encoding,content-language,content-length,"
    "content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,"
    "if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,"
    "proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,"
    "user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,"
    "keep-alive,origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split(",")) + _TAIL.encode()
)

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY, HEADERS = 1, 2, 3, 6, 7, 8
FIN = 1
MOST_FRAME_BYTES = 1 << 20
MOST_HEADER_BYTES = 1 << 16
MOST_STREAMS = 1000
_VERSION = 0x8003

Send = Callable[[bytes], Awaitable[None]]


class SpdyError(ValueError):
    """The other side does not speak it."""


class Stream:
    """One stream that the client opened. `incoming` has what it sends; None is its end."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.number = number
        self.headers = headers
        # A client that sends faster than the guest reads waits here.
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue(16)

    async def send(self, content: bytes, *, is_last: bool = False) -> None:
        await self._connection.send_data(self.number, content, FIN if is_last else 0)


class SpdyConnection:
    """The server's side. `on_stream` is called for each stream that is opened."""

    def __init__(self, send: Send, on_stream: Callable[[Stream], None]) -> None:
        self._send = send
        self._on_stream = on_stream
        self._streams: dict[int, Stream] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._buffer = b""

    async def feed(self, content: bytes) -> None:
        """Bytes of the client, cut anywhere. Raises SpdyError."""
        self._buffer += content
        while len(self._buffer) >= 8:
            first, second = struct.unpack(">II", self._buffer[:8])
            length, flags = second & 0xFFFFFF, second >> 24
            if length > MOST_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                return
            body, self._buffer = self._buffer[8 : 8 + length], self._buffer[8 + length :]
            if first >> 31:
                if first >> 16 != _VERSION:
                    raise SpdyError("a frame of another version")
                await self._take_control(first & 0xFFFF, flags, body)
            else:
                await self._take_data(first, flags, body)

    async def close(self) -> None:
        """The client is gone: every stream ends."""
        for stream in self._streams.values():
            await stream.incoming.put(None)
        self._streams.clear()

    async def send_data(self, number: int, content: bytes, flags: int = 0) -> None:
        for start in range(0, max(1, len(content)), MOST_FRAME_BYTES):
            part = content[start : start + MOST_FRAME_BYTES]
            is_end = start + len(part) >= len(content)
            await self._send(struct.pack(">II", number, (flags if is_end else 0) << 24 | len(part)) + part)

    async def _take_control(self, kind: int, flags: int, body: bytes) -> None:
        if kind == SYN_STREAM:
            if len(body) < 10 or len(self._streams) >= MOST_STREAMS:
                raise SpdyError("a stream that cannot be opened")
            number = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
            stream = Stream(self, number, self._read_headers(body[10:]))
            self._streams[number] = stream
            reply = (
                struct.pack(">I", number)
                + self._deflate.compress(bytes(4))
                + self._deflate.flush(zlib.Z_SYNC_FLUSH)
            )
            await self._send_control(SYN_REPLY, reply)
            if flags & FIN:
                await stream.incoming.put(None)
            self._on_stream(stream)
        elif kind == HEADERS:
            self._read_headers(body[4:])
        elif kind == PING:
            await self._send_control(PING, body)
        elif kind == RST_STREAM and len(body) >= 4:
            ended = self._streams.pop(struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF, None)
            if ended is not None:
                await ended.incoming.put(None)

    async def _take_data(self, number: int, flags: int, body: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if body:
            await stream.incoming.put(body)
        if flags & FIN:
            await stream.incoming.put(None)
            del self._streams[number]

    def _read_headers(self, block: bytes) -> dict[str, str]:
        """Names and values; all blocks of a connection are one zlib stream."""
        try:
            plain = self._inflate.decompress(block, MOST_HEADER_BYTES)
            if self._inflate.unconsumed_tail:
                raise SpdyError("headers that are too long")
            (count,), at, words = struct.unpack(">I", plain[:4]), 4, []
            for _ in range(2 * min(count, 1000)):
                (length,) = struct.unpack(">I", plain[at : at + 4])
                words.append(plain[at + 4 : at + 4 + length].decode())
                at += 4 + length
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise SpdyError(f"headers that cannot be read: {error}") from error
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}

    async def _send_control(self, kind: int, body: bytes) -> None:
        await self._send(struct.pack(">HHI", _VERSION, kind, len(body)) + body)
