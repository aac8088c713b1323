# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import threading
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from support.balanced import connect, find_free_port, start_guest
from volant.errors import Conflict
from volant.volantd.network.carrier.service import Service, ask_holder
from volant.volantd.network.forward_udp import open_here
from volant.volantd.network.types import PublishedPort


def make_port() -> PublishedPort:
    return PublishedPort("127.0.0.1", find_free_port(), 80)


def hold(
    key: str, port: PublishedPort, target: tuple[str, int], *, is_inside: bool = False
) -> dict[str, Any]:
    return {"verb": "hold", "key": key, "ports": [astuple(port)], "targets": [target], "is_inside": is_inside}


async def is_open(port: PublishedPort) -> bool:
    try:
        _, writer = await connect(port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_what_is_told_again_changes_nothing_and_what_is_told_otherwise_does() -> None:
    service, port = Service(open_here), make_port()
    async with start_guest("a") as a, start_guest("b") as b:
        await service._do(hold("vm/1", port, a.address))
        before = service._carried["vm/1"]
        await service._do(hold("vm/1", port, a.address))
        assert service._carried["vm/1"] is before and not service.is_idle
        await service._do(hold("vm/1", port, b.address))
        reader, writer = await connect(port)
        writer.write(b"who\n")
        assert await reader.readline() == b"b\n"
        writer.close()
        with pytest.raises(Conflict):
            await service._do(hold("vm/2", port, a.address))
        await service._do({"verb": "keep", "kind": "vm", "keys": ["vm/2"]})
        assert service.is_idle and not await is_open(port)


async def test_another_kind_under_the_same_key_takes_its_place() -> None:
    service, port = Service(open_here), make_port()
    async with start_guest("a") as a:
        await service._do(hold("x/1", port, a.address))
        balance = {
            "verb": "balance",
            "key": "x/1",
            "ports": [astuple(port)],
            "backends": [[("a", *a.address)]],
        }
        await service._do(balance)
        assert await is_open(port)
        await service._do({"verb": "drain", "key": "nobody", "backend": "a", "seconds": 3600})
        await service._do({"verb": "withdraw", "key": "x/1"})
        await service._do({"verb": "withdraw", "key": "x/1"})
        assert service.is_idle and not await is_open(port)


def test_sockets_of_the_shared_network_come_from_its_holder(tmp_path: Path) -> None:
    place = str(tmp_path / "net.sock")
    asked: list[bytes] = []

    def answer(descriptors: list[int]) -> None:
        client, _ = listener.accept()
        with client:
            asked.append(client.recv(4096))
            socket.send_fds(client, [b"{}"], descriptors)

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.create_server(("127.0.0.1", 0)) as given,
    ):
        listener.bind(place)
        listener.listen()
        for descriptors in ([given.fileno()], []):
            thread = threading.Thread(target=answer, args=(descriptors,))
            thread.start()
            if descriptors:
                with ask_holder(place, socket.SOCK_STREAM) as got:
                    assert got.getsockname() == given.getsockname()
            else:
                with pytest.raises(OSError, match="no socket of the VMs' shared network"):
                    ask_holder(place, socket.SOCK_STREAM)
            thread.join(60)
    assert b'"verb": "socket"' in asked[0]
    with pytest.raises(OSError):
        ask_holder(place, socket.SOCK_STREAM)
