# SPDX-License-Identifier: Apache-2.0
"""Those of a VM's published ports on which we listen: while it runs the carrier does, which outlives this daemon.

Where a VM sleeps when it is idle, the daemon does itself, also while it sleeps: whoever connects wakes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from volant.volantd.network.carrier.carrier import Carrier
from volant.volantd.network.forward import PortForwarder
from volant.volantd.network.forward_udp import open_here
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.vms.networking import find_forwarding, sleeps_when_idle
from volant.volantd.vms.record import VmRecord

KIND = "vm"


def name_key(vm_id: str) -> str:
    """Of what the carrier has of a VM."""
    return f"{KIND}/{vm_id}"


class HeldPorts:
    """`wake` is waited for before somebody is connected to a VM that sleeps when it is idle."""

    def __init__(self, carrier: Carrier, vm_id: str, wake: Callable[[], Awaitable[None]]) -> None:
        self._carrier, self._key, self._wake = carrier, name_key(vm_id), wake
        self._forwarder: PortForwarder | None = None

    @property
    def active_at(self) -> float:
        """When somebody connected or a byte passed last, by the event loop's clock; 0 where nobody asks for that."""
        return self._forwarder.active_at if self._forwarder is not None else 0.0

    async def hold(self, record: VmRecord, network: SharedNetwork | None) -> None:
        """As it should be for a VM on the shared `network`, or on none."""
        found = find_forwarding(record, is_shared=network is not None)
        if found is None:
            await self.close()
        elif not sleeps_when_idle(record):
            await self.release()
            await self._carrier.hold(self._key, found.ports, found.targets, is_inside=found.is_inside)
        elif self._forwarder is None:
            await self._carrier.withdraw(self._key)
            targets = dict(zip(found.ports, found.targets, strict=True))
            open_socket = network.open_socket if network is not None else open_here
            forwarder = PortForwarder(found.ports, targets.__getitem__, self._wake, open_socket)
            await forwarder.start()
            self._forwarder = forwarder

    async def release(self) -> None:
        """The daemon ends: what the carrier has, it keeps."""
        forwarder, self._forwarder = self._forwarder, None
        if forwarder is not None:
            await forwarder.close()

    async def close(self) -> None:
        await self.release()
        await self._carrier.withdraw(self._key)
