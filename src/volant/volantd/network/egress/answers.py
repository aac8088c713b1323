# SPDX-License-Identifier: Apache-2.0
"""DNS for guests that are held to a list of names: questions asked anew, answers fitted to what may be reached.

Nothing of a held guest's packet is passed on but an allowed name and a kind of record: letters' case, options and
identifiers would carry what it likes. The same goes for names and kinds that are not asked for at all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from volant.contract.egress import Egress
from volant.volantd.network.packet_filter import BridgeNet

# Kinds that hold addresses beside a name's own (HTTPS, SVCB) would lead where nothing is let through.
ASKED = frozenset({"A", "AAAA", "CNAME", "MX", "SRV", "TXT"})
MOST_ADDRESSES = 64
Ask = Callable[[bytes], Awaitable[bytes | None]]
"""The answer of one of the host's resolvers, or None."""
Admit = Callable[[Mapping[str, int]], Awaitable[bool]]
"""Whether these addresses, with the seconds that their records live, can be reached from now on."""


@dataclass(frozen=True, slots=True)
class HeldNames:
    """How one guest's questions are answered. `net`: in which no name leads."""

    egress: Egress
    net: BridgeNet
    admit: Admit
    note_refused: Callable[[str], None]


async def answer_held(packet: bytes, held: HeldNames, ask: Ask) -> bytes:
    """The reply to a question that no VM's name answers. Raises DNSError for what is none."""
    question = DNSRecord.parse(packet)
    reply = question.reply()
    name, kind = str(question.q.qname).rstrip(".").lower(), str(QTYPE[question.q.qtype])
    if not held.egress.allows_name(name):
        held.note_refused(name)
        reply.header.rcode = RCODE.NXDOMAIN
    elif kind in ASKED:
        fresh = DNSRecord.question(name, kind)
        answer = await ask(bytes(fresh.pack()))
        found = None if answer is None else _read_answer(answer, fresh)
        if found is None or not await _take(found, reply, held):
            reply = question.reply()
            reply.header.rcode = RCODE.SERVFAIL
    return bytes(reply.pack())


def _read_answer(answer: bytes, asked: DNSRecord) -> DNSRecord | None:
    """None for what answers another question."""
    try:
        found = DNSRecord.parse(answer)
    except DNSError:
        return None
    fits = found.header.qr and found.header.id == asked.header.id and len(found.questions) == 1
    if not fits or str(found.q.qname).lower() != str(asked.q.qname) or found.q.qtype != asked.q.qtype:
        return None
    return found


async def _take(found: DNSRecord, reply: DNSRecord, held: HeldNames) -> bool:
    """Put into the reply what was found, once what it leads to can be reached."""
    reply.header.rcode, reply.header.tc = found.header.rcode, found.header.tc
    addresses: dict[str, int] = {}
    for record in found.rr:
        if QTYPE[record.rtype] in ("A", "AAAA"):
            address = str(record.rdata)
            if not leads_outward(address, held.net) or len(addresses) >= MOST_ADDRESSES:
                continue
            addresses[address] = max(addresses.get(address, 0), int(record.ttl))
        reply.add_answer(record)
    return not addresses or await held.admit(addresses)


def leads_outward(address: str, net: BridgeNet) -> bool:
    """Whether a name may lead there: not to the host itself, to what answers on its links alone (as clouds' metadata
    does), nor to VMs. Who owns a name chooses its addresses."""
    found = ipaddress.ip_address(address)
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        return leads_outward(str(mapped), net)
    inside: Sequence[object] = (net.subnet, net.prefix)
    return not (
        found.is_loopback
        or found.is_link_local
        or found.is_multicast
        or found.is_unspecified
        or any(found in network for network in inside if network is not None)  # type: ignore[operator]
    )
