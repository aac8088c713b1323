# SPDX-License-Identifier: Apache-2.0
"""Guests of one bridge held to their lists: rules that are as they should be, names' addresses, and what was counted.

The same for the bridge of root's and for the shared network: where nft is run is all that differs. What the kernel
counted and let through outlives the daemon; what it has of guests and lists that are gone is taken away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from volant.errors import VolantError
from volant.volantd.network.egress.answers import HeldNames
from volant.volantd.network.egress.rules import TABLE, HeldGuest, make_admission, make_rules
from volant.volantd.network.packet_filter import BridgeNet

logger = logging.getLogger(__name__)

Nft = Callable[[Sequence[str], bytes], bytes]
"""Run nft with arguments and input; what it prints. Blocks; raises ToolFailed."""
FindHeld = Callable[[], Sequence[HeldGuest]]
# A program keeps an address for a while after its record's life.
GRACE_SECONDS, MOST_HOLD_SECONDS = 120, 86_400
MOST_RECENT = 20
# Lines of each guest in so many seconds.
MOST_LOGGED, LOG_SECONDS = 10, 60.0
MOST_REMEMBERED = 100_000
PROTOCOLS = {"6": "tcp", "17": "udp"}
_KEY = re.compile(r"guest_([0-9a-f]{12})")


@dataclass
class Counts:
    """Since the guest was started, or its list changed. `allowed`: connections; `refused`: packets and names."""

    allowed: int = 0
    refused_packets: int = 0
    refused_names: int = 0
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))
    """Of what was refused last, each once."""
    logged: int = 0
    logged_since: float = 0.0

    @property
    def refused(self) -> int:
        return self.refused_packets + self.refused_names


class EgressGuard:
    def __init__(self, nft: Nft, find_net: Callable[[], BridgeNet], find_held: FindHeld) -> None:
        self._nft = nft
        self._find_net = find_net
        self._find_held = find_held
        self._held: dict[str, HeldGuest] = {}
        """By address, as the rules have them."""
        self._applied: str | None = None
        """None: nobody knows what is there; empty: nothing."""
        self._counts: dict[str, Counts] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._lock = asyncio.Lock()
        self.on_counted: Callable[[str], None] = lambda _name: None
        """Told of a VM whose counts are others."""

    @property
    def is_used(self) -> bool:
        return bool(self._held)

    def forget(self, *, is_empty: bool) -> None:
        """The rules are in another place from now on. `is_empty`: one without rules of this kind."""
        self._applied = "" if is_empty else None
        self._until.clear()

    async def apply(self) -> None:
        """Hold the guests of now to their lists of now. Raises ToolFailed."""
        async with self._lock:
            guests = sorted(self._find_held(), key=lambda guest: guest.address)
            wanted = make_rules(guests, self._find_net())
            if wanted == self._applied or (not guests and self._applied == ""):
                return
            known = {guest.key for guest in guests}
            stale = sorted(set(await self._list_keys()) - known)
            if not guests and not stale and self._applied is None:
                self._applied = ""
                return
            rules = make_rules(guests, self._find_net(), stale)
            await asyncio.to_thread(self._nft, ["-f", "-"], rules.encode())
            self._applied = wanted
            self._held = {guest.address: guest for guest in guests}
            self._counts = {key: self._counts.get(key, Counts()) for key in known}
            self._until = {place: until for place, until in self._until.items() if place[0] in known}

    async def _list_keys(self) -> list[str]:
        """Of guests that the kernel knows lists of, by this daemon or by one before it."""
        listed = await asyncio.to_thread(self._nft, ["list", "chains", "inet"], b"")
        ours = listed.decode().partition(f"table {TABLE} {{")[2].partition("\ntable ")[0]
        return _KEY.findall(ours)

    # Names

    def find_names(self, asker: str) -> HeldNames | None:
        """How this guest's questions are answered; None where it is held to no list, whatever the rules have by now."""
        guest = next((guest for guest in self._find_held() if guest.address == asker), None)
        if guest is None:
            return None

        async def admit(addresses: Mapping[str, int]) -> bool:
            return await self._admit(guest, addresses)

        def note(name: str) -> None:
            self._note_name(guest, name)

        return HeldNames(guest.egress, self._find_net(), admit, note)

    async def _admit(self, guest: HeldGuest, addresses: Mapping[str, int]) -> bool:
        now = time.monotonic()
        holds = {
            address: min(max(lives, 0), MOST_HOLD_SECONDS) + GRACE_SECONDS
            for address, lives in addresses.items()
        }
        # Half of the grace may be gone: so the same question costs nothing most times.
        due = {
            address: hold
            for address, hold in holds.items()
            if self._until.get((guest.key, address), 0.0) < now + hold - GRACE_SECONDS / 2
        }
        if not due:
            return True
        try:
            async with self._lock:
                await asyncio.to_thread(self._nft, ["-f", "-"], make_admission(guest, due).encode())
        except VolantError as error:
            logger.warning("VM %s: cannot let it reach %s: %s", guest.name, ", ".join(due), error.what)
            return False
        if len(self._until) > MOST_REMEMBERED:
            self._until.clear()
        self._until.update({(guest.key, address): now + hold for address, hold in due.items()})
        return True

    def _note_name(self, guest: HeldGuest, name: str) -> None:
        counts = self._counts.setdefault(guest.key, Counts())
        counts.refused_names += 1
        self._note_recent(guest, counts, [f"name {ascii(name)[1:-1][:100]}"])
        self.on_counted(guest.name)

    def _note_recent(self, guest: HeldGuest, counts: Counts, places: Sequence[str]) -> None:
        now = time.monotonic()
        if now - counts.logged_since > LOG_SECONDS:
            counts.logged, counts.logged_since = 0, now
        for place in places:
            if place in counts.recent:
                continue
            counts.recent.append(place)
            counts.logged += 1
            if counts.logged <= MOST_LOGGED:
                logger.info("VM %s: refused by its egress: %s", guest.name, place)
            elif counts.logged == MOST_LOGGED + 1:
                logger.info("VM %s: refused by its egress: more, see volar vms get", guest.name)

    # Counts

    def find_counts(self, name: str) -> Counts | None:
        """Of the VM of this name, as they were read last; None where it is held to nothing now."""
        found = next((guest for guest in self._held.values() if guest.name == name), None)
        return None if found is None else self._counts.get(found.key)

    async def count(self) -> None:
        """Read what the kernel counted, and write down where guests were refused. Raises ToolFailed."""
        if not self._held:
            return
        try:
            listed = await asyncio.to_thread(self._nft, ["-j", "list", "table", *TABLE.split()], b"")
        except VolantError:
            # Somebody has flushed all rules there.
            self.forget(is_empty=False)
            await self.apply()
            return
        async with self._lock:
            counted = read_table(listed)
            for guest in self._held.values():
                counts = self._counts.setdefault(guest.key, Counts())
                before = (counts.allowed, counts.refused_packets)
                counts.allowed = counted.packets.get(f"allowed_{guest.key}", 0)
                counts.refused_packets = counted.packets.get(f"refused_{guest.key}", 0)
                places = [
                    place
                    for version in (4, 6)
                    for place in counted.places.get(f"refused{version}_{guest.key}", [])
                ]
                self._note_recent(guest, counts, places)
                if before != (counts.allowed, counts.refused_packets):
                    self.on_counted(guest.name)


@dataclass(frozen=True, slots=True)
class Counted:
    """Packets by counters' names, and places as `tcp ADDRESS:PORT` by sets' names."""

    packets: Mapping[str, int]
    places: Mapping[str, list[str]]


def read_table(listed: bytes) -> Counted:
    """nft's JSON (libnftables-json(5))."""
    packets: dict[str, int] = {}
    places: dict[str, list[str]] = {}
    for item in json.loads(listed)["nftables"]:
        if (counter := item.get("counter")) is not None:
            packets[counter["name"]] = counter["packets"]
        elif (found := item.get("set")) is not None and found["name"].startswith("refused"):
            places[found["name"]] = [_show(element["elem"]["val"]) for element in found.get("elem", [])]
    return Counted(packets, places)


def _show(value: dict[str, list[object]]) -> str:
    address, protocol, port = map(str, value["concat"])
    shown = f"[{address}]" if ":" in address else address
    return f"{PROTOCOLS.get(protocol, protocol)} {shown}:{port}"
