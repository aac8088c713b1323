# SPDX-License-Identifier: Apache-2.0
"""The balancer of one deployment: opened with its ports, told whom to send work to, closed with it.

The carrier has it, so that it balances on while no daemon is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from volant.errors import VolantError
from volant.volantd.deployments.observing import find_target
from volant.volantd.deployments.record import Deployment
from volant.volantd.network.balancer import Backend
from volant.volantd.network.types import PublishedPort
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord

AGAIN_SECONDS = 2.0
KIND = "deployment"


def name_key(deployment_id: str) -> str:
    """Of what the carrier has of a deployment."""
    return f"{KIND}/{deployment_id}"


class Balancing:
    def __init__(self, fleet: Fleet, deployment_id: str, on_change: Callable[[], None]) -> None:
        self.problem = ""
        """Why its ports cannot be listened on, or empty."""
        self._fleet, self._key = fleet, name_key(deployment_id)
        self._on_change = on_change
        self._wanted: dict[PublishedPort, list[Backend]] = {}
        self._told: dict[PublishedPort, list[Backend]] | None = None
        self._telling: asyncio.Task[None] | None = None

    def follow(self, deployment: Deployment, serving: Sequence[VmRecord]) -> None:
        """Listen where the deployment says, and send connections to these."""
        self._wanted = {
            port: [
                Backend(record.id, target)
                for record in serving
                if (target := find_target(record, port.guest_port, port.protocol)) is not None
            ]
            for port in (() if deployment.deleting else deployment.publish)
        }
        if self._wanted != self._told and self._telling is None:
            self._telling = self._fleet.background.run(self._tell(), f"balancer of {deployment.name}")

    async def _tell(self) -> None:
        carrier = self._fleet.domain.carrier
        try:
            while (wanted := self._wanted) != self._told:
                try:
                    if wanted:
                        await carrier.balance(self._key, wanted)
                    else:
                        await carrier.withdraw(self._key)
                except VolantError as error:
                    self.problem = error.what
                    self._on_change()
                    await asyncio.sleep(AGAIN_SECONDS)
                else:
                    self.problem, self._told = "", wanted
        finally:
            self._telling = None
            self._on_change()

    async def drain(self, vm_id: str, seconds: float) -> None:
        await self._fleet.domain.carrier.drain(self._key, vm_id, seconds)

    def release(self) -> None:
        """The daemon ends: what the carrier has, it keeps."""
        if self._telling is not None:
            self._telling.cancel()

    def close(self) -> None:
        """For good: nothing is opened any more."""
        self.release()
        self._fleet.background.run(self._fleet.domain.carrier.withdraw(self._key), "end of a balancer")
