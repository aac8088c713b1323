# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network

import pytest
from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSRecord

from volant.contract.egress import parse_egress
from volant.volantd.network.bridge import BRIDGE, BRIDGE_MAC, GATEWAY, SUBNET
from volant.volantd.network.egress.answers import HeldNames, answer_held, leads_outward
from volant.volantd.network.packet_filter import BridgeNet

NET = BridgeNet(BRIDGE, BRIDGE_MAC, SUBNET, GATEWAY, IPv6Network("fd00::/64"))


class Host:
    """Resolvers that answer with `records`, and a kernel that takes what is let through."""

    def __init__(self, *records: RR, takes: bool = True) -> None:
        self.records, self.takes = records, takes
        self.asked: list[str] = []
        self.admitted: dict[str, int] = {}
        self.refused: list[str] = []

    async def ask(self, packet: bytes) -> bytes | None:
        question = DNSRecord.parse(packet)
        self.asked.append(f"{question.q.qname} {QTYPE[question.q.qtype]}")
        reply = question.reply()
        for record in self.records:
            reply.add_answer(record)
        return bytes(reply.pack())

    async def admit(self, addresses: Mapping[str, int]) -> bool:
        self.admitted.update(addresses)
        return self.takes

    async def answer(self, name: str, kind: str = "A") -> DNSRecord:
        held = HeldNames(parse_egress("a.example,*.b.example"), NET, self.admit, self.refused.append)
        packet = DNSRecord.question(name, kind).pack()
        reply = DNSRecord.parse(await answer_held(packet, held, self.ask))
        assert str(reply.q.qname).rstrip(".") == name
        return reply


async def test_addresses_of_an_alias_are_let_through_for_as_long_as_they_live() -> None:
    host = Host(
        RR("a.example", QTYPE.CNAME, rdata=CNAME("cdn.example"), ttl=9),
        RR("cdn.example", rdata=A("192.0.2.1"), ttl=30),
        RR("cdn.example", rdata=A("192.0.2.2"), ttl=60),
    )
    reply = await host.answer("a.example")
    assert [str(record.rdata) for record in reply.rr] == ["cdn.example.", "192.0.2.1", "192.0.2.2"]
    assert host.admitted == {"192.0.2.1": 30, "192.0.2.2": 60}


async def test_no_letter_of_a_name_that_is_not_allowed_leaves_this_host() -> None:
    host = Host()
    for name in ("secret.a.example", "example", "b.example"):
        assert RCODE[(await host.answer(name)).header.rcode] == "NXDOMAIN"
    assert (host.asked, host.refused) == ([], ["secret.a.example", "example", "b.example"])


async def test_letters_case_and_odd_kinds_say_nothing_to_anybody() -> None:
    host = Host(RR("x.b.example", rdata=A("192.0.2.1"), ttl=30))
    assert len((await host.answer("X.b.eXaMPLE")).rr) == 1
    assert host.asked == ["x.b.example. A"]
    for kind in ("HTTPS", "NULL", "ANY"):
        reply = await host.answer("a.example", kind)
        assert (RCODE[reply.header.rcode], reply.rr) == ("NOERROR", [])
    assert len(host.asked) == 1


async def test_what_cannot_be_let_through_is_not_answered() -> None:
    reply = await Host(RR("a.example", rdata=A("192.0.2.1")), takes=False).answer("a.example")
    assert (RCODE[reply.header.rcode], reply.rr) == ("SERVFAIL", [])


async def test_an_answer_to_another_question_is_none() -> None:
    host = Host()

    async def ask(_packet: bytes) -> bytes:
        return bytes(DNSRecord.question("c.example").reply().pack())

    host.ask = ask  # type: ignore[assignment,method-assign]
    assert RCODE[(await host.answer("a.example")).header.rcode] == "SERVFAIL"


async def test_a_name_leads_to_no_host_of_its_owners_choice_inside() -> None:
    host = Host(RR("a.example", rdata=A("169.254.169.254")), RR("a.example", rdata=AAAA("::1")))
    assert ((await host.answer("a.example")).rr, host.admitted) == ([], {})


@pytest.mark.parametrize(
    ("address", "outward"),
    [
        ("192.0.2.1", True), ("10.1.2.3", True), ("2001:db8::1", True), ("127.0.0.1", False), ("0.0.0.0", False),
        ("169.254.169.254", False), ("224.0.0.1", False), ("192.168.127.101", False), ("fd00::1", False),
        ("fe80::1", False), ("::1", False), ("::ffff:127.0.0.1", False), ("::ffff:192.0.2.1", True),
    ],
)  # fmt: skip
def test_names_lead_outward(address: str, outward: bool) -> None:
    assert leads_outward(address, NET) is outward
