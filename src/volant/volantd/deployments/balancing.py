# SPDX-License-Identifier: Apache-2.0
"""The balancer of one deployment: opened with its ports, told whom to send work to, closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from volant.errors import VolantError
from volant.volantd.deployments.observing import find_target
from volant.volantd.deployments.record import Deployment
from volant.volantd.network.balancer import Backend, Balancer
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord

AGAIN_SECONDS = 2.0


class Balancing:
    def __init__(self, fleet: Fleet, on_change: Callable[[], None]) -> None:
        self.problem = ""
        """Why its ports cannot be listened on, or empty."""
        self._fleet = fleet
        self._on_change = on_change
        self._balancer: Balancer | None = None
        self._backends: dict[PublishedPort, list[Backend]] = {}
        self._opening: asyncio.Task[None] | None = None

    def follow(self, deployment: Deployment, serving: Sequence[VmRecord]) -> None:
        """Listen where the deployment says, and send connections to these."""
        wanted = () if deployment.deleting else deployment.publish
        self._backends = {
            port: [
                Backend(record.id, target)
                for record in serving
                if (target := find_target(record, port.guest_port, port.protocol)) is not None
            ]
            for port in wanted
        }
        if self._balancer is not None and self._balancer.published != wanted:
            self._close()
        if self._balancer is not None:
            self._balancer.set_backends(self._backends)
        elif wanted and self._opening is None:
            self._opening = self._fleet.background.run(self._open(wanted), f"balancer of {deployment.name}")

    async def _open(self, published: Sequence[PublishedPort]) -> None:
        balancer = Balancer(published)
        balancer.set_backends(self._backends)
        try:
            await balancer.start()
        except VolantError as error:
            self.problem = error.what
            self._on_change()
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            self.problem = ""
            self._balancer = balancer
        finally:
            self._opening = None
            self._on_change()

    async def drain(self, vm_id: str, seconds: float) -> None:
        if self._balancer is not None:
            await self._balancer.drain(vm_id, seconds)

    def close(self) -> None:
        """For good: nothing is opened any more."""
        if self._opening is not None:
            self._opening.cancel()
        self._close()

    def _close(self) -> None:
        balancer, self._balancer = self._balancer, None
        if balancer is not None:
            balancer.close()
