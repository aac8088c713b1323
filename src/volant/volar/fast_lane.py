# SPDX-License-Identifier: Apache-2.0
"""`volar vms list` as prompts, loops and watch call it: without click and http.client, which take twice as long to load
as everything else takes.

That is the plain case alone: no options, this user's own daemon, and it answers with the whole list. Anything else is
left to the command line, which asks again from the beginning: a list may be read twice.
"""

from __future__ import annotations

import os
import socket

from volant.contract import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from volant.contract.api_types import Vm

WORDS = (["ps"], ["ls"], ["vms", "list"], ["vms", "ls"])
CHOICES_OF_A_DAEMON = frozenset({"VOLANT_API_BASE", "VOLANT_CONTEXT", "VOLANT_TOKEN", "_VOLAR_COMPLETE"})
# Whoever is busier is asked at leisure.
PATIENCE_SECONDS = 5


def list_vms(words: list[str]) -> str | None:
    """The table that these words ask for. None: they ask for another thing."""
    if words not in WORDS or (path := find_own_daemon()) is None or (vms := fetch_vms(path)) is None:
        return None
    from volant.volar.tables import make_rows_table
    from volant.volar.vm_columns import COLUMNS

    return "\n".join(make_rows_table(vms, COLUMNS))


def find_own_daemon() -> str | None:
    """The socket of this user's own daemon, where nothing could name another one."""
    if CHOICES_OF_A_DAEMON & os.environ.keys():
        return None
    folder = places.find_runtime_dir()
    if os.path.lexists(places.find_contexts_file()) or not places.is_private_folder(folder):
        return None
    return os.path.join(folder, places.SOCKET_NAME)


def fetch_vms(path: str) -> list[Vm] | None:
    """Every VM that the daemon at this socket has, if one reply has them all."""
    import json

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(path)
            connection.sendall(b"GET /api/v1/vms HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            reply = b"".join(iter(lambda: connection.recv(1 << 18), b""))
        head, _, body = reply.partition(b"\r\n\r\n")
        status, *lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        if status != b"http/1.1 200 ok" or b"next-after" in headers:
            return None
        vms: list[Vm] = json.loads(read_body(headers, body))
    except (OSError, ValueError):
        return None
    return vms


def read_body(headers: dict[bytes, bytes], body: bytes) -> bytes:
    """The content of a reply (RFC 9112, section 6). ValueError where it is not all there, or comes in another way."""
    if headers.get(b"transfer-encoding") != b"chunked":
        if headers.get(b"content-length") != str(len(body)).encode():
            raise ValueError("cut")
        return body
    begin, chunks = 0, list[bytes]()
    while True:
        end = body.index(b"\r\n", begin)
        length = int(body[begin:end], 16)
        if not length:
            return b"".join(chunks)
        chunks.append(body[end + 2 : end + 2 + length])
        begin = end + 2 + length + 2
