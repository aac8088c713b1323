# SPDX-License-Identifier: Apache-2.0
"""A guest as the file server hears one: real server, real confinement, and requests that no agent would send."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volant.forked_programs import start_forked
from volant.volantd.folders import server
from volant.volantd.folders.wire import ANSWER, ATTRIBUTES, HEAD, Operation

MARK = "volant-folders-test"
GREETING = b"kestrel greets "


class FolderClient:
    def __init__(self, connected: socket.socket, pid: int) -> None:
        self.pid = pid
        self.events: list[tuple[int, int, bytes, bytes]] = []
        self._socket = connected
        self._number = 0
        line = self._read_line()
        assert line.startswith(MARK.encode() + b"-")
        # What was meant for an earlier host comes first.
        connected.sendall(b"\0rest of an answer\0" + GREETING + line + b"\r\n")

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._socket.recv(1)
        return line[:-1]

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (more := self._socket.recv(count - len(data))):
                raise EOFError
            data += more
        return data

    def ask(self, operation: int, body: bytes = b"", folder: int = 0) -> bytes:
        """The answer; OSError with what the server says."""
        self._number += 1
        self.send(HEAD.pack(6 + len(body), self._number, operation, folder) + body)
        while True:
            number, error, answer = self.receive()
            if number == self._number:
                if error:
                    raise OSError(error, os.strerror(error))
                return answer

    def receive(self) -> tuple[int, int, bytes]:
        length, number, error = ANSWER.unpack(self.read(ANSWER.size))
        body = self.read(length - 8)
        if number == 0:
            size = int.from_bytes(body[2:4], "little")
            self.events.append((body[0], body[1], body[4 : 4 + size], body[4 + size :]))
        return number, error, body

    def settle(self) -> list[tuple[int, int, bytes, bytes]]:
        """The events so far: what happened before a request is told before its answer."""
        self.ask(Operation.STAT, text(""))
        found, self.events = self.events, []
        return found

    def stat(self, path: str) -> tuple[int, ...]:
        return ATTRIBUTES.unpack(self.ask(Operation.STAT, text(path)))

    def open(self, path: str, flags: int, handle: int = 1) -> bytes:
        return self.ask(Operation.OPEN, struct.pack("<II", handle, flags) + text(path))

    def create(
        self, path: str, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o644, handle: int = 1
    ) -> bytes:
        return self.ask(Operation.CREATE, struct.pack("<III", handle, flags, mode) + text(path))

    def list(self, path: str = "") -> tuple[bool, set[str]]:
        """Whether it is watched, and the names."""
        answer = self.ask(Operation.LIST, struct.pack("<I", 0) + text(path))
        names, at = set(), 5
        for _ in range(int.from_bytes(answer[1:5], "little")):
            at += ATTRIBUTES.size
            size = int.from_bytes(answer[at : at + 2], "little")
            names.add(os.fsdecode(answer[at + 2 : at + 2 + size]))
            at += 2 + size
        return bool(answer[0] & 1), names

    def close(self) -> None:
        self._socket.close()


def text(value: str | bytes) -> bytes:
    data = os.fsencode(value)
    return len(data).to_bytes(2, "little") + data


@contextmanager
def serve(log: Path, *shares: str) -> Iterator[FolderClient]:
    """A file server with `shares` ("rw:/path") in a process of its own, and a guest that has greeted it."""
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with ours, theirs:
        pid = start_forked(server.__file__, ["10", MARK, *shares], log, descriptors={10: theirs.fileno()})
        theirs.close()
        try:
            yield FolderClient(ours, pid)
        finally:
            ours.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
