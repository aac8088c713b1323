# SPDX-License-Identifier: Apache-2.0
"""`volar vms fork` and `volar vms resume` in their plain forms ask the daemon before the command line is loaded, which
takes as long as half of either act.

The command line makes the same request a moment later, and is given this one's reply (`begun_connection`). So what is
sent here is what these words would send in any case: no options, names that can be nothing else, and this user's own
daemon, where one answers.
"""

from __future__ import annotations

import os
import socket

from volant.volar.fast_lane import find_own_daemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Of names (contract.names); which ones a VM may have is for the daemon to say.
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


class EarlyRequest:
    """A POST of JSON that was sent on `stream`. `key` is its Idempotency-Key."""

    def __init__(self, path: str, body: dict[str, object], stream: socket.socket) -> None:
        self.target, self.body, self.stream = f"/api/v1{path}", body, stream
        self.key = os.urandom(16).hex()

    def send(self) -> None:
        import json

        content = json.dumps(self.body).encode()
        head = (
            f"POST {self.target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nIdempotency-Key: {self.key}\r\n\r\n"
        )
        self.stream.sendall(head.encode() + content)


_begun: EarlyRequest | None = None


def begin(words: Sequence[str]) -> None:
    """Send what these words ask for, if they are of the plain forms."""
    global _begun
    if (act := find_act(words)) is None or (path := find_own_daemon()) is None:
        return
    stream = socket.socket(socket.AF_UNIX)
    try:
        stream.connect(path)
        request = EarlyRequest(*act, stream)
        request.send()
    except OSError:
        stream.close()  # nothing has reached anybody: the command line says what is wrong
    else:
        _begun = request


def take() -> EarlyRequest | None:
    """The request that was sent, once."""
    global _begun
    begun, _begun = _begun, None
    return begun


def find_act(words: Sequence[str]) -> tuple[str, dict[str, object]] | None:
    """Path and body of what these words ask for; None: something else, or nothing that is sure."""
    match words:
        case ["vms", "fork", source, name] if is_plain(source) and is_plain(name) and source != name:
            return f"/vms/{source}/fork", {"names": [name]}
        case ["vms", "resume", name] if is_plain(name):
            return f"/vms/{name}/resume", {}
    return None


def is_plain(name: str) -> bool:
    return bool(name) and name[0] in PLAIN and PLAIN.issuperset(name.replace("-", ""))
