# SPDX-License-Identifier: Apache-2.0
"""An SSH agent with one key that the daemon holds: it signs there, and the key never comes here.

The protocol is draft-ietf-sshm-ssh-agent; a client asks which keys there are, and to sign what the server wants signed.
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from volant.errors import VolantError

FAILURE, REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = 5, 11, 12, 13, 14
LARGEST_MESSAGE_BYTES = 1 << 18

Sign = Callable[[bytes], bytes]


@contextmanager
def serve_agent(path: Path, public_key: str, sign: Sign) -> Iterator[None]:
    """Answer at a UNIX socket for this key ("ssh-ed25519 AAAA…") as long as the context lasts."""
    blob = base64.b64decode(public_key.split()[1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):  # closed: the context has ended
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_serve, args=(client, blob, sign), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, blob: bytes, sign: Sign) -> None:
    with client, suppress(OSError), client.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            (length,) = struct.unpack("!I", head)
            if not 0 < length <= LARGEST_MESSAGE_BYTES:
                return
            client.sendall(_pack(answer(stream.read(length), blob, sign)))


def answer(message: bytes, blob: bytes, sign: Sign) -> bytes:
    """The reply to one message; failure for everything that is not about this key."""
    kind, body = message[0], message[1:]
    if kind == REQUEST_IDENTITIES:
        return bytes([IDENTITIES_ANSWER]) + struct.pack("!I", 1) + _pack(blob) + _pack(b"volantd")
    try:
        if kind == SIGN_REQUEST:
            wanted, rest = _unpack(body)
            data, _flags = _unpack(rest)
            if wanted == blob:
                return bytes([SIGN_RESPONSE]) + _pack(sign(data))
    except (struct.error, VolantError):
        pass
    return bytes([FAILURE])


def _pack(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def _unpack(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack_from("!I", data)
    return data[4 : 4 + length], data[4 + length :]
