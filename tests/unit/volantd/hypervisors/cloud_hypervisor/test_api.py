# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from volant.errors import ToolFailed, Unreachable
from volant.volantd.hypervisors.cloud_hypervisor.api import VmmApi, explain


class Peer:
    """Answers one request with what it is given, and keeps what it was sent."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.request = b""
        self.names: list[str] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _is_whole(self) -> bool:
        head, _, body = self.request.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        return b"\r\n\r\n" in self.request and len(body) == (int(length[1]) if length else 0)

    def _serve(self) -> None:
        stream, _ = self._listener.accept()
        with stream, self._listener:
            while not self._is_whole():
                data, descriptors, _, _ = socket.recv_fds(stream, 4096, 4)
                self.request += data
                for descriptor in descriptors:
                    self.names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
                    os.close(descriptor)
            stream.sendall(self._answer)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b'{"version": "v54.0"}'
DONE = b"HTTP/1.1 204 No Content\r\nServer: Cloud Hypervisor API\r\n\r\n"


async def test_what_it_says_is_read(folder: Path) -> None:
    peer = Peer(folder / "s", OK)
    assert await VmmApi(folder / "s", "web").get("vmm.ping") == {"version": "v54.0"}
    assert peer.request.startswith(b"GET /api/v1/vmm.ping HTTP/1.1\r\n")


async def test_descriptors_go_with_the_request(folder: Path) -> None:
    peer = Peer(folder / "s", DONE)
    file = os.open(folder / "tap", os.O_RDWR | os.O_CREAT)
    try:
        await VmmApi(folder / "s", "web").put("vm.add-net", {"id": "net0"}, descriptors=[file])
    finally:
        os.close(file)
    await asyncio.to_thread(peer.thread.join)
    assert peer.names == [str(folder / "tap")]
    assert peer.request.endswith(b'\r\n\r\n{"id": "net0"}')
    assert b"Content-Type: application/json\r\n" in peer.request


async def test_its_refusal_is_told_in_its_words(folder: Path) -> None:
    body = b'["Error from API","The VM could not boot","No such file"]'
    Peer(
        folder / "s",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
    )
    with pytest.raises(
        ToolFailed, match=r"cannot vm\.boot web: Error from API: The VM could not boot: No such file"
    ):
        await VmmApi(folder / "s", "web").put("vm.boot")


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
)
async def test_what_is_no_answer_is_unreachable(folder: Path, answer: bytes) -> None:
    Peer(folder / "s", answer)
    with pytest.raises(Unreachable):
        await VmmApi(folder / "s", "web").get("vm.info")


async def test_an_answer_that_is_no_object_is_refused(folder: Path) -> None:
    Peer(folder / "s", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    with pytest.raises(ToolFailed, match="no JSON object"):
        await VmmApi(folder / "s", "web").get("vm.info")


async def test_nobody_there_is_unreachable(folder: Path) -> None:
    with pytest.raises(Unreachable):
        await VmmApi(folder / "s", "web").get("vmm.ping")


def test_older_versions_explain_in_plain_text() -> None:
    assert explain(b"VmCreate(Error)\n") == "VmCreate(Error)"
