# SPDX-License-Identifier: Apache-2.0
"""Addresses of pods: of the node's own range, on a device of this host, where VMs' ports are published.

The range is what the cluster gave the node (spec.podCIDR). Without one, or without the right to add addresses, a pod
has its host's address, as one with hostPort has.
"""

from __future__ import annotations

import ipaddress
import logging
import subprocess

from lightkube.resources.core_v1 import Pod

from volant.contract.api_types import Vm
from volant.errors import Conflict

log = logging.getLogger(__name__)
# The first are left to whoever routes the range.
FIRST_HOST = 2


class PodAddresses:
    """Which addresses are given away: found again from the VMs that have them."""

    def __init__(self, host_address: str, device: str = "lo") -> None:
        self._host_address = host_address
        self._device = device
        self._range: ipaddress.IPv4Network | None = None
        self._taken: set[str] = set()

    @property
    def has_range(self) -> bool:
        return self._range is not None

    def use_range(self, text: str | None) -> None:
        """The node's range, once the cluster has given it one."""
        if text is None or self._range is not None:
            return
        network = ipaddress.ip_network(text)
        if not isinstance(network, ipaddress.IPv4Network):
            return
        # Whether this user may add any is tried with one that no pod is given.
        probe = str(network[1])
        if self._add(probe):
            self._run("del", probe)
            self._range = network

    def adopt(self, vm: Vm) -> None:
        address = self.find(vm)
        if address and address != self._host_address:
            self._taken.add(address)
            self._add(address)

    def lease(self, pod: Pod) -> str:
        if self._range is None:
            return self._host_address
        for number in range(FIRST_HOST, self._range.num_addresses - 1):
            address = str(self._range[number])
            if address not in self._taken:
                self._taken.add(address)
                self._add(address)
                return address
        raise Conflict(f"there is no free address in {self._range}")

    def release(self, address: str) -> None:
        if address in self._taken:
            self._taken.discard(address)
            self._run("del", address)

    def find(self, vm: Vm) -> str:
        """The pod's address: where the VM's ports are published."""
        return next(
            (port["host_ip"] for port in vm["ports"] if port["host_ip"] != vm["ip"]), self._host_address
        )

    def _add(self, address: str) -> bool:
        return self._run("replace", address)

    def _run(self, verb: str, address: str) -> bool:
        done = subprocess.run(
            ["ip", "address", verb, f"{address}/32", "dev", self._device],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            log.debug("ip address %s %s: %s", verb, address, done.stderr.strip())
        return done.returncode == 0
