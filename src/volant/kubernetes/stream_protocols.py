# SPDX-License-Identifier: Apache-2.0
"""Which protocol of Kubernetes' remote commands is spoken over a WebSocket: the newest that the client offers.

kubectl offers v5; plain WebSocket clients the first one (`channel.k8s.io`), in which the end of the connection alone
tells that a command ended well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

# The offer as the node's server keeps it for us (node_server.py says why).
OFFER_HEADER = "x-offered-protocols"
NEWEST, FIRST = "v5.channel.k8s.io", "channel.k8s.io"
KNOWN = (NEWEST, "v4.channel.k8s.io", FIRST)


def choose_protocol(offer: str) -> str:
    """Of names with commas between; who offers none that we know is answered by the newest."""
    offered = {name.strip() for name in offer.split(",")}
    return next((name for name in KNOWN if name in offered), NEWEST)


def keep_offer(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers of a request, with the offer under a name that the library does not look at."""
    kept = OFFER_HEADER.encode()
    found = [(name, value) for name, value in headers if name != kept]
    return [(kept, value) if name == b"sec-websocket-protocol" else (name, value) for name, value in found]


def write_end(protocol: str, status: bytes) -> bytes | None:
    """What the channel for errors says at a command's end, of its Status; None: nothing."""
    if protocol != FIRST:
        return status
    told = json.loads(status)
    return None if told["status"] == "Success" else str(told["message"]).encode()
