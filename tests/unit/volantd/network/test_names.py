# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from dnslib import DNSRecord

from volant.volantd.network.names import NameServer, answer_locally, read_nameservers

NAMES = {"web": ("192.168.127.100",), "six": ("192.168.127.101", "fd00::c0a8:7f65")}


def ask(name: str, kind: str = "A", names: dict[str, tuple[str, ...]] | None = None) -> DNSRecord | None:
    reply = answer_locally(DNSRecord.question(name, kind).pack(), NAMES if names is None else names)
    return None if reply is None else DNSRecord.parse(reply)


def test_a_vm_is_known_bare_and_under_the_domain() -> None:
    for name in ("web", "WEB", "web.volant"):
        reply = ask(name)
        assert reply is not None
        assert [str(record.rdata) for record in reply.rr] == ["192.168.127.100"]


def test_a_vm_has_no_ipv6_address_but_exists() -> None:
    reply = ask("web", "AAAA")
    assert reply is not None
    assert (reply.header.rcode, reply.rr) == (0, [])


def test_a_vm_has_an_address_of_each_kind_where_it_was_given_one() -> None:
    found = {}
    for kind in ("A", "AAAA", "ANY", "TXT"):
        reply = ask("six", kind)
        assert reply is not None and reply.header.rcode == 0
        found[kind] = [str(record.rdata) for record in reply.rr]
    four, six = NAMES["six"]
    found["ANY"].sort()
    assert found == {"A": [four], "AAAA": [six], "ANY": [four, six], "TXT": []}


def test_unknown_bare_names_end_here() -> None:
    for name in ("nobody", "nobody.volant"):
        reply = ask(name)
        assert reply is not None
        assert reply.header.rcode == 3


def test_an_address_has_its_name() -> None:
    reply = ask("100.127.168.192.in-addr.arpa", "PTR")
    assert reply is not None
    assert str(reply.rr[0].rdata) == "web.volant."
    reply = ask("5.6.f.7.8.a.0.c" + ".0" * 22 + ".d.f.ip6.arpa", "PTR")
    assert reply is not None
    assert str(reply.rr[0].rdata) == "six.volant."


def test_everything_else_is_not_ours() -> None:
    assert ask("debian.org") is None
    assert ask("9.9.9.9.in-addr.arpa", "PTR") is None


def test_nameservers_are_read_from_resolv_conf(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# one\nsearch x\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n"
    )
    assert read_nameservers(file) == ["10.0.0.1", "fe80::1"]
    assert read_nameservers(tmp_path / "missing") == []


class Client(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.replies: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.replies.put_nowait(data)


async def exchange(port: int, *packets: bytes) -> bytes:
    transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
        Client, remote_addr=("127.0.0.1", port)
    )
    try:
        for packet in packets:
            transport.sendto(packet)
        return await asyncio.wait_for(client.replies.get(), 5)
    finally:
        transport.close()


async def exchange_by_stream(port: int, packet: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(struct.pack("!H", len(packet)) + packet)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()


async def test_questions_travel_upstream_and_rubbish_is_dropped() -> None:
    # The upstream is a second server of ours that knows the other name.
    upstream = NameServer(lambda _asker: {"debian.org": ("192.0.2.1",)}, upstream=list)
    upstream_port = await upstream.start("127.0.0.1", 0)
    server = NameServer(lambda _asker: NAMES, upstream=lambda: ["127.0.0.1"], upstream_port=upstream_port)
    port = await server.start("127.0.0.1", 0)
    try:
        question = DNSRecord.question("debian.org").pack()
        for reply in (await exchange(port, b"rubbish", question), await exchange_by_stream(port, question)):
            assert str(DNSRecord.parse(reply).rr[0].rdata) == "192.0.2.1"
        reply = await exchange_by_stream(port, DNSRecord.question("web").pack())
        assert str(DNSRecord.parse(reply).rr[0].rdata) == "192.168.127.100"
    finally:
        await server.close()
        await upstream.close()


async def test_without_an_upstream_the_client_is_told() -> None:
    server = NameServer(lambda _asker: NAMES, upstream=list)
    port = await server.start("127.0.0.1", 0)
    try:
        reply = DNSRecord.parse(await exchange(port, DNSRecord.question("debian.org").pack()))
        assert reply.header.rcode == 2
    finally:
        await server.close()
