# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import socket

import pytest

from volant.errors import Conflict, InvalidInput, NotPermitted
from volant.volantd.network.types import PortRequest, PublishedPort
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


def test_what_only_one_can_listen_on_is_refused_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_bind_problem", lambda *_: None)
    everywhere, here = PortRequest(80, 8090, "0.0.0.0"), PortRequest(81, 8090)
    for asked in ([everywhere, here], [here, everywhere]):
        with pytest.raises(InvalidInput, match="only one can listen"):
            addresses.publish(asked)
    with pytest.raises(InvalidInput, match="twice"):
        addresses.publish([here, here])
    beside = [PublishedPort("127.127.3.4", 8090, 80)]
    with pytest.raises(InvalidInput, match=r"0\.0\.0\.0:8090: 127\.127\.3\.4:8090 is published, too"):
        addresses.publish([everywhere], beside)
    apart = [
        everywhere,
        PortRequest(81, 8091),
        PortRequest(53, 8090, protocol="udp"),
        PortRequest(80, 8090, "::1"),
    ]
    assert len(addresses.publish(apart)) == 4


def test_a_port_that_is_published_everywhere_is_so_at_the_vms_own_address() -> None:
    usual = [PublishedPort("127.127.3.4", 8080, 80), PublishedPort("127.127.3.4", 8022, 22)]
    assert addresses.leave_out_covered(usual, [PortRequest(80, 8080, "0.0.0.0")]) == usual[1:]
    for other in (
        PortRequest(80, 8080),
        PortRequest(81, 8080, "0.0.0.0"),
        PortRequest(80, 8080, "0.0.0.0", "udp"),
    ):
        assert addresses.leave_out_covered(usual, [other]) == usual


def test_where_somebody_listens_everywhere_a_vm_has_a_higher_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_problem(_address: str, port: int, _protocol: str = "tcp") -> int | None:
        return errno.EACCES if port < 1024 else errno.EADDRINUSE if port == 8080 else None

    monkeypatch.setattr(addresses, "find_bind_problem", find_problem)
    assert addresses.choose_address((), [80])[1][0].host_port == 16080
