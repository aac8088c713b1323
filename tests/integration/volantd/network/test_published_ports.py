# SPDX-License-Identifier: Apache-2.0
"""Published ports of bridged VMs, from another machine: TCP and UDP, on addresses of IPv4 and IPv6."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.bridged_net import FIRST, OUTSIDE, Net, start_net

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

# Answers over TCP and UDP with what it was sent and, so that a test sees who asked, with the sender's address.
GUEST = """
import select, socket
tcp, udp = socket.create_server(("0.0.0.0", 7)), socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 7))
print("ready", flush=True)
while True:
    for ready in select.select([tcp, udp], [], [])[0]:
        if ready is udp:
            data, sender = udp.recvfrom(2048)
            udp.sendto(data + b" from " + sender[0].encode(), sender)
        else:
            with ready.accept()[0] as connection:
                connection.sendall(connection.recv(2048) + b" from " + connection.getpeername()[0].encode())
"""
HOST = f"""
import asyncio
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.types import PublishedPort
places = [("198.51.100.1", "tcp"), ("198.51.100.1", "udp"), ("2001:db8::1", "tcp"), ("2001:db8::1", "udp")]
async def serve():
    ports = [PublishedPort(address, 7007, 7, protocol) for address, protocol in places]
    async with PortForwarder(ports, lambda port: ("{FIRST}", port.guest_port)):
        print("ready", flush=True)
        await asyncio.sleep(120)
asyncio.run(serve())
"""
ASK = """
import socket, sys
address, protocol = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as asking:
    asking.settimeout(10)
    asking.connect((address, 7007))
    asking.sendall(b"hello")
    print(asking.recv(2048).decode())
"""


@pytest.fixture
def net() -> Iterator[Net]:
    with start_net() as found:
        found.add_outside()
        yield found


def test_another_machine_reaches_what_is_published_and_nothing_else(net: Net) -> None:
    programs = [net.start("a", GUEST), net.start("host", HOST)]
    try:
        for address in ("198.51.100.1", "2001:db8::1"):
            for protocol in ("tcp", "udp"):
                # The guest sees the gateway: it may answer nobody else on the host.
                assert net.python("outside", ASK, address, protocol) == "hello from 192.168.127.1\n"
        assert not net.connects("outside", FIRST, 7)
        assert net.reaches("a", OUTSIDE)
        # What is published is published for others: a guest does not come in by it.
        assert not net.connects("a", "198.51.100.1", 7007)
    finally:
        for program in programs:
            program.kill()
            program.communicate()
