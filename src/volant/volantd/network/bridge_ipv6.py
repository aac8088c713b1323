# SPDX-License-Identifier: Apache-2.0
"""IPv6 on the bridge: a prefix that is this host's own (RFC 4193), in it one address for each IPv4 lease, and the
host's forwarding.

An address is its lease's, written behind the prefix: so it is unique by the same constraint, and nothing more is kept.
Outward it is translated (NAT66), since nobody routes the prefix.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from pathlib import Path

logger = logging.getLogger(__name__)

SETTINGS = Path("/proc/sys/net/ipv6/conf")
MACHINE_ID = Path("/etc/machine-id")
PREFIX_LENGTH = 64


def find_prefix() -> ipaddress.IPv6Network | None:
    """This host's, or None where IPv6 is switched off."""
    try:
        disabled = [(SETTINGS / name / "disable_ipv6").read_text().strip() for name in ("all", "default")]
    except OSError:
        return None
    return make_prefix() if disabled == ["0", "0"] else None


def make_prefix() -> ipaddress.IPv6Network:
    """The same for as long as the host has its machine id."""
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    # fd, 40 bits that are likely nobody else's, and a subnet's number (RFC 4193, 3.1).
    number = hashlib.sha256(f"volant bridge {machine}".encode()).digest()[:5]
    return ipaddress.IPv6Network((b"\xfd" + number + b"\0\x7f" + bytes(8), PREFIX_LENGTH))


def make_address(prefix: ipaddress.IPv6Network, lease: str | ipaddress.IPv4Address) -> ipaddress.IPv6Address:
    return prefix[int(ipaddress.IPv4Address(lease))]


def find_address(lease: str) -> str:
    """The address that goes with a lease on this host; empty where there is no IPv6."""
    prefix = find_prefix()
    return "" if prefix is None else str(make_address(prefix, lease))


def make_link_local(mac: str) -> ipaddress.IPv6Address:
    """What a kernel makes of a card's hardware address (RFC 4291, appendix A)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]])
    return ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier)


def describe_forwarding() -> list[str]:
    """What `forward` does, as commands that a person could type instead."""
    return [
        *(f"sysctl -w net.ipv6.conf.{name}.accept_ra=2" for name in list_advertised()),
        "sysctl -w net.ipv6.conf.all.forwarding=1",
    ]


def forward() -> None:
    """Let this host forward IPv6. Where it may not be switched on VMs still reach each other and this host."""
    switch = SETTINGS / "all" / "forwarding"
    if switch.read_text().strip() == "1":
        return
    try:
        for name in list_advertised():
            (SETTINGS / name / "accept_ra").write_text("2\n")
        switch.write_text("1\n")
    except OSError as error:
        logger.warning("VMs do not reach other networks by IPv6: %s: %s", error.filename, error.strerror)


def list_advertised() -> list[str]:
    """Interfaces whose routes come from router advertisements, which a host that forwards would no longer listen to
    (Documentation/networking/ip-sysctl.rst, accept_ra)."""
    files = sorted(SETTINGS.glob("*/accept_ra"))
    return [file.parent.name for file in files if file.read_text().strip() == "1"]
