# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import socket

import pytest

from volant.errors import Conflict, InvalidInput, NotPermitted
from volant.volantd.network.types import PortRequest
from volant.volantd.vms import addresses


def test_each_vm_gets_an_address_of_its_own() -> None:
    taken: set[str] = set()
    for _ in range(50):
        address, ports = addresses.choose_address(taken, [])
        assert address not in taken
        assert address.startswith("127.127.")
        assert ports == []
        taken.add(address)


def test_the_workloads_port_is_as_it_is_or_8000_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_bind_problem", lambda _address, port, _protocol="tcp": None)
    assert addresses.choose_address((), [80])[1][0].host_port == 80
    monkeypatch.setattr(
        addresses,
        "find_bind_problem",
        lambda _address, port, _protocol="tcp": errno.EACCES if port < 1024 else None,
    )
    assert addresses.choose_address((), [80])[1][0].host_port == 8080
    monkeypatch.setattr(
        addresses, "find_bind_problem", lambda _address, _port, _protocol="tcp": errno.EADDRINUSE
    )
    with pytest.raises(Conflict):
        addresses.choose_address((), [80])


def test_a_port_in_use_is_a_conflict_that_says_who_to_look_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}: the port is in use") as caught:
            addresses.publish([PortRequest(guest_port=80, host_port=port)])
    assert "ss -ltnp" in caught.value.resolution


def test_a_port_below_1024_and_an_address_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_bind_problem", lambda *_: errno.EACCES)
    with pytest.raises(NotPermitted) as caught:
        addresses.publish([PortRequest(guest_port=80, host_port=80)])
    assert "--publish 8080:80" in caught.value.resolution
    monkeypatch.undo()
    with pytest.raises(InvalidInput):
        addresses.publish([PortRequest(guest_port=80, host_port=8080, host_ip="203.0.113.9")])


def test_a_free_port_is_chosen_and_none_twice() -> None:
    (first,) = addresses.publish([PortRequest(guest_port=80)])
    assert first.host_port > 0
    with pytest.raises(InvalidInput, match="twice"):
        addresses.publish([PortRequest(guest_port=80, host_port=first.host_port)] * 2)
