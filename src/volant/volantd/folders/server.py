# SPDX-License-Identifier: Apache-2.0
"""The file server of one VM: serves folders of the host over the stream to the guest's agent, and can do nothing else.

A fork of the fork server, with the standard library only: `main SOCKET MARK {rw|ro}:PATH…`. It ends with the VM, and
is held by Landlock to its folders. The guest is hostile: what it sends is read within bounds (`wire.py`), one request
after the other, and what it does not take holds up nobody but itself.
"""

from __future__ import annotations

import errno
import os
import resource
import secrets
import select
import socket
import sys
from collections.abc import Collection
from pathlib import Path

# The fork server loads this file alone, and knows of no packages.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from volant.volantd.folders.operations import MOST_OPEN, Operations
from volant.volantd.folders.tree import SharedFolder
from volant.volantd.folders.watches import Place, Watches
from volant.volantd.folders.wire import ANSWER, HEAD, REQUEST_LIMIT, pack_event
from volant.volantd.hypervisors import confine

GREETING_PREFIX = b"kestrel greets "
# More than the queue of a port holds.
SKIPPED_LIMIT = 64 << 20
CHUNK = 256 << 10
# Of address space: requests and answers are at most some megabytes at a time.
MEMORY_LIMIT = 1 << 30


class Ended(Exception):
    """The stream is over, or the guest has sent what no agent sends."""


class Stream:
    """The socket of the guest's port, with whole requests in and bytes out."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    def greet(self, mark: bytes) -> None:
        """Say who is there, and drop what the guest sent to an earlier one."""
        line = mark + b"-" + secrets.token_hex(8).encode()
        self.send(line + b"\n")
        wanted, skipped = GREETING_PREFIX + line + b"\r\n", 0
        while (at := self._received.find(wanted)) < 0:
            keep = len(wanted) - 1
            skipped += max(0, len(self._received) - keep)
            if skipped > SKIPPED_LIMIT:
                raise Ended("the guest's agent does not greet this host")
            del self._received[:-keep]
            self.receive()
        del self._received[: at + len(wanted)]

    def receive(self) -> None:
        data = self._socket.recv(CHUNK)
        if not data:
            raise Ended("the VM has ended")
        self._received += data

    def next_request(self) -> bytes | None:
        """What follows a request's length, if all of it is there."""
        if len(self._received) < 4:
            return None
        length = int.from_bytes(self._received[:4], "little")
        if not HEAD.size - 4 <= length <= REQUEST_LIMIT:
            raise Ended(f"the guest sent a request of {length} bytes")
        if len(self._received) < 4 + length:
            return None
        request = bytes(memoryview(self._received)[4 : 4 + length])
        del self._received[: 4 + length]
        return request

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)


class Server:
    def __init__(self, stream: Stream, folders: list[SharedFolder]) -> None:
        self._stream = stream
        self._watches = Watches()
        self._operations = Operations(folders, self._watches)

    def serve(self) -> None:
        poller = select.poll()
        poller.register(self._stream, select.POLLIN)
        if self._watches.descriptor is not None:
            poller.register(self._watches.descriptor, select.POLLIN)
        while True:
            # The first ones came with the greeting.
            while (request := self._stream.next_request()) is not None:
                self._answer(request)
            self._tell_changes()
            if self._stream.fileno() in {descriptor for descriptor, _ in poller.poll()}:
                self._stream.receive()

    def _answer(self, request: bytes) -> None:
        self._tell_changes()
        number = int.from_bytes(request[:4], "little")
        operation, folder = request[4], request[5]
        body, error = b"", 0
        self._operations.touched.clear()
        try:
            body = self._operations.act(operation, folder, memoryview(request)[6:])
        except OSError as problem:
            error = problem.errno or errno.EIO
        except MemoryError:
            error = errno.ENOMEM
        if self._operations.touched:
            self._tell_changes(self._operations.touched)
        self._stream.send(ANSWER.pack(8 + len(body), number, error) + body)

    def _tell_changes(self, own: Collection[Place] = ()) -> None:
        for kind, (folder, path), name in self._watches.read(own):
            self._stream.send(pack_event(folder, kind, path, name))


def give_up_rights(folders: list[tuple[bool, str]]) -> None:
    """Nothing from here on but these folders."""
    if os.geteuid() == 0:
        confine.drop_capabilities(None)
        confine.clear_capabilities()
    confine.call("prctl", confine.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN + 128
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), min(wanted, most)))
    rules = []
    for read_only, path in folders:
        is_file = not os.path.isdir(path)
        kind = "--read" if read_only else "--shared-file" if is_file else "--shared"
        rules.append((kind, os.path.dirname(path) if is_file else path))
    confine.restrict_files(rules, has_network=False)


def main(descriptor: str, mark: str, *folders: str) -> None:
    os.umask(0)
    wanted = [(option.startswith("ro:"), os.path.realpath(option[3:])) for option in folders]
    stream = Stream(socket.socket(fileno=int(descriptor)))
    try:
        give_up_rights(wanted)
        shared = [SharedFolder(path, read_only=read_only) for read_only, path in wanted]
        stream.greet(mark.encode())
        Server(stream, shared).serve()
    except (Ended, ConnectionError) as end:
        print(f"folders: {end}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
