# SPDX-License-Identifier: Apache-2.0
"""Names that a guest may know: its own, and those of guests with whom it shares a network."""

from __future__ import annotations

from collections.abc import Sequence

from volant.volantd.network.names import Addresses
from volant.volantd.network.shared.rules import Guest


def find_visible_names(guests: Sequence[Guest], asker: str) -> Addresses:
    """By the asker's IPv4 address. One name may be several guests': the addresses of those that are well are answered,
    and of all where none is."""
    asking = next((guest for guest in guests if guest.address == asker), None)
    if asking is None:
        return {}
    found: dict[str, list[Guest]] = {}
    for guest in guests:
        if guest is asking or not set(guest.networks).isdisjoint(asking.networks):
            for name in dict.fromkeys((guest.name, *guest.aliases)):
                found.setdefault(name, []).append(guest)
    return {
        name: [
            address
            for guest in [each for each in called if each.is_well] or called
            for address in filter(None, (guest.address, guest.address6))
        ]
        for name, called in found.items()
    }


def leads_out(guests: Sequence[Guest], asker: str) -> bool:
    """Whether who asks reaches more than other guests: a question for a name beyond them tells somebody, too."""
    return any(guest.address == asker and guest.leads_out for guest in guests)
