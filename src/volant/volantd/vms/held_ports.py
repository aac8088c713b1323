# SPDX-License-Identifier: Apache-2.0
"""Those of a VM's published ports that the daemon holds, while it runs and, where it wakes by them, while it sleeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.vms.networking import sleeps_when_idle, start_forwarding
from volant.volantd.vms.record import VmRecord


class HeldPorts:
    """`wake` is waited for before somebody is connected to a VM that sleeps when it is idle."""

    def __init__(self, wake: Callable[[], Awaitable[None]]) -> None:
        self._wake = wake
        self._forwarder: PortForwarder | None = None

    @property
    def active_at(self) -> float:
        """When somebody connected or a byte passed last, by the event loop's clock; 0 where none is held."""
        return self._forwarder.active_at if self._forwarder is not None else 0.0

    async def hold(self, record: VmRecord, network: SharedNetwork | None) -> None:
        """As it should be for a VM on the shared `network`, or on none; those of one that sleeps and is not to any more
        are let go."""
        if self._forwarder is not None and not sleeps_when_idle(record):
            await self.close()
        if self._forwarder is None:
            self._forwarder = await start_forwarding(record, self._wake, network)

    async def close(self) -> None:
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            await forwarder.close()
