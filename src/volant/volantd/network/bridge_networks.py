# SPDX-License-Identifier: Apache-2.0
"""Networks by name on root's bridge: the rules and names of the shared network, for guests that are on the host's own.

As long as no VM there asks for one the bridge is what it always was: one network, in which all see each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from volant.errors import VolantError
from volant.volantd.network.egress.guard import Nft
from volant.volantd.network.names import Addresses
from volant.volantd.network.packet_filter import TABLE, BridgeNet
from volant.volantd.network.shared.rules import Guest, make_bridge_rules
from volant.volantd.network.shared.visible import find_visible_names, leads_out

logger = logging.getLogger(__name__)

NO_RULES = f"table bridge {TABLE}\ndelete table bridge {TABLE}\n"


class BridgeNetworks:
    """`find_guests`: those on the bridge that run, or are about to; none where nobody is in a network by name."""

    def __init__(
        self, nft: Nft, find_net: Callable[[], BridgeNet], find_guests: Callable[[], Sequence[Guest]]
    ) -> None:
        self._nft = nft
        self._find_net = find_net
        self._find_guests = find_guests
        self._applied: str | None = None
        self._lock = asyncio.Lock()

    async def apply(self) -> None:
        """Let guests reach each other as they should now. Raises ToolFailed where they could not be kept apart."""
        async with self._lock:
            guests = self._find_guests()
            rules = make_bridge_rules(guests, self._find_net()) if guests else NO_RULES
            if rules == self._applied:
                return
            try:
                await asyncio.to_thread(self._nft, ["-f", "-"], rules.encode())
            except VolantError as error:
                if guests:
                    raise
                # A kernel that knows no such table has none.
                logger.debug("%s: %s", error.what, error.details)
            self._applied = rules

    def find_names(self, asker: str) -> Addresses | None:
        """What a guest may know; None where all of the bridge may know all."""
        guests = self._find_guests()
        is_guest = any(guest.address == asker for guest in guests)
        return find_visible_names(guests, asker) if is_guest else None

    def leads_out(self, asker: str) -> bool:
        guests = self._find_guests()
        return not guests or leads_out(guests, asker)
