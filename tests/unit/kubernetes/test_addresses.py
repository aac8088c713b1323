# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from support.fake_cluster import make_pod, make_vm
from volant.errors import Conflict
from volant.kubernetes.addresses import PodAddresses


class Addresses(PodAddresses):
    """Without a device."""

    def __init__(self, *, may_add: bool = True) -> None:
        super().__init__("192.0.2.1")
        self.device: set[str] = set()
        self._may_add = may_add

    def _run(self, verb: str, address: str) -> bool:
        if self._may_add:
            (self.device.add if verb == "replace" else self.device.discard)(address)
        return self._may_add


def test_each_pod_has_an_address_of_the_nodes_range_and_gives_it_back() -> None:
    addresses = Addresses()
    assert addresses.lease(make_pod()) == "192.0.2.1"
    addresses.use_range("10.1.2.0/30")
    assert addresses.device == set(), "trying leaves nothing"
    first = addresses.lease(make_pod())
    assert first == "10.1.2.2"
    with pytest.raises(Conflict, match="no free address"):
        addresses.lease(make_pod())
    addresses.release(first)
    assert first not in addresses.device
    assert addresses.lease(make_pod()) == first


def test_a_host_that_may_add_none_shares_its_own() -> None:
    addresses = Addresses(may_add=False)
    addresses.use_range("10.1.2.0/24")
    assert not addresses.has_range
    assert addresses.lease(make_pod()) == "192.0.2.1"


def test_addresses_of_running_vms_are_found_again() -> None:
    addresses = Addresses()
    vm = make_vm(ports=[{"host_ip": "10.1.2.2", "host_port": 80, "guest_port": 80, "protocol": "tcp"}])
    addresses.adopt(vm)
    addresses.use_range("10.1.2.0/24")
    assert addresses.find(vm) == "10.1.2.2"
    assert addresses.lease(make_pod()) == "10.1.2.3"
