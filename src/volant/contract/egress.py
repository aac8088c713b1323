# SPDX-License-Identifier: Apache-2.0
"""What a guest may reach beyond the VMs of its networks: `open`, `none`, or names and networks with commas between.

A name is a host's (`deb.debian.org`) or all below a domain (`*.debian.org`), a network an address or a CIDR of IPv4 or
IPv6. Loads nothing that is slow: the command line reads it, too.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

OPEN, NONE = "open", "none"
MOST_ENTRIES = 200
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)+{_LABEL}")
_ADDRESS = re.compile(r"[0-9.]+(/[0-9]+)?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(/[0-9]+)?")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Egress:
    """`names`: in lower case, as they were given; `networks`: none lies in another."""

    is_open: bool = False
    names: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @property
    def is_closed(self) -> bool:
        return not (self.is_open or self.names or self.networks)

    def allows_name(self, name: str) -> bool:
        """`name`: without the dot at its end."""
        wanted = name.lower()
        return self.is_open or any(
            wanted.endswith(known[1:]) and len(wanted) >= len(known) if known[0] == "*" else wanted == known
            for known in self.names
        )

    def list_networks(self, version: int) -> list[str]:
        return [str(network) for network in self.networks if network.version == version]


EVERYTHING = Egress(is_open=True)


@lru_cache(maxsize=1024)
def parse_egress(text: str) -> Egress:
    """Raises ValueError, which says what is wrong with it."""
    words = [word.strip() for word in text.split(",")]
    if words in ([OPEN], [NONE]):
        return Egress(is_open=words == [OPEN])
    if len(words) > MOST_ENTRIES:
        raise ValueError(f"has {len(words)} names and networks, and may have {MOST_ENTRIES}")
    names: dict[str, None] = {}
    four: list[ipaddress.IPv4Network] = []
    six: list[ipaddress.IPv6Network] = []
    for word in words:
        if _ADDRESS.fullmatch(word):
            network = _parse_network(word)
            if isinstance(network, ipaddress.IPv4Network):
                four.append(network)
            else:
                six.append(network)
        elif len(word) <= 253 and _NAME.fullmatch(word.lower().removesuffix(".")):
            names[word.lower().removesuffix(".")] = None
        else:
            raise ValueError(
                f"{word!r} is no name as deb.debian.org or *.debian.org, and no network as 10.0.0.0/8"
                + (f": {word} stands alone" if word in (OPEN, NONE) else "")
            )
    collapsed: list[Network] = [*ipaddress.collapse_addresses(four)]
    collapsed += ipaddress.collapse_addresses(six)
    return Egress(names=tuple(names), networks=tuple(collapsed))


def _parse_network(word: str) -> Network:
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        raise ValueError(f"{word!r} is no network: {error}") from error


def check_egress(text: str) -> str:
    parse_egress(text)
    return ",".join(word.strip() for word in text.split(","))
