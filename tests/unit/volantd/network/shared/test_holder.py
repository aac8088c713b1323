# SPDX-License-Identifier: Apache-2.0
"""What the holder answers, in this process and in the namespace that it is in anyway."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from volant.volantd.network.shared.holder import Holder, make_request


def ask(holder: Holder, request: object) -> tuple[dict[str, object], list[int]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(json.dumps(request).encode() if not isinstance(request, bytes) else request)
        assert holder._answer(theirs)
        message, descriptors, _, _ = socket.recv_fds(ours, 4096, 4)
        return json.loads(message), list(descriptors)


def test_sockets_and_namespaces_are_handed_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        holder = Holder(listener, "bridge0")
        answer, (descriptor,) = ask(
            holder, {"verb": "socket", "family": socket.AF_INET, "kind": socket.SOCK_DGRAM}
        )
        with socket.socket(fileno=descriptor) as made:
            assert answer == {} and made.type == socket.SOCK_DGRAM
        answer, namespaces = ask(holder, {"verb": "enter"})
        assert answer == {"pid": os.getpid()}
        assert os.fstat(namespaces[1]).st_ino == os.stat("/proc/self/ns/net").st_ino
        for descriptor in namespaces:
            os.close(descriptor)


def test_what_it_does_not_understand_ends_nothing() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        holder = Holder(listener, "bridge0")
        for request in (b"\xff", b"[]", {"verb": "dance"}, {"verb": "socket", "family": -1, "kind": 99}):
            answer, descriptors = ask(holder, request)
            assert "error" in answer and descriptors == []


def test_an_interface_is_named_in_the_kernels_own_form() -> None:
    request = make_request("vtap0", b"\x01\x00")
    assert len(request) == 40 and request[:6] == b"vtap0\0" and request[16:18] == b"\x01\x00"
