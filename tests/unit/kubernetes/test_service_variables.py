# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

from lightkube.resources.core_v1 import Service

from volant.kubernetes.service_variables import make_service_variables


def read_service(name: str, address: str, *ports: dict[str, Any]) -> Service:
    document = {"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}
    return cast("Service", Service.from_dict(document))


def test_a_service_is_told_of_as_the_kubelet_does_it() -> None:
    web = read_service(
        "web-shop",
        "10.96.0.7",
        {"name": "http", "port": 80},
        {"name": "dns-udp", "port": 53, "protocol": "UDP"},
    )
    assert make_service_variables([web]) == {
        "WEB_SHOP_SERVICE_HOST": "10.96.0.7",
        "WEB_SHOP_SERVICE_PORT": "80",
        "WEB_SHOP_SERVICE_PORT_HTTP": "80",
        "WEB_SHOP_SERVICE_PORT_DNS_UDP": "53",
        "WEB_SHOP_PORT": "tcp://10.96.0.7:80",
        "WEB_SHOP_PORT_80_TCP": "tcp://10.96.0.7:80",
        "WEB_SHOP_PORT_80_TCP_PROTO": "tcp",
        "WEB_SHOP_PORT_80_TCP_PORT": "80",
        "WEB_SHOP_PORT_80_TCP_ADDR": "10.96.0.7",
        "WEB_SHOP_PORT_53_UDP": "udp://10.96.0.7:53",
        "WEB_SHOP_PORT_53_UDP_PROTO": "udp",
        "WEB_SHOP_PORT_53_UDP_PORT": "53",
        "WEB_SHOP_PORT_53_UDP_ADDR": "10.96.0.7",
    }


def test_of_equal_names_the_last_counts_and_without_an_address_there_is_nothing_to_tell() -> None:
    found = make_service_variables(
        [
            read_service("db", "10.96.0.1", {"port": 1}),
            read_service("db", "fd00::1", {"port": 1}),
            read_service("headless", "None", {"port": 1}),
            read_service("outside", "", {"port": 1}),
            read_service("portless", "10.96.0.2"),
        ]
    )
    assert {name for name in found if not name.startswith("DB_")} == set()
    assert (found["DB_SERVICE_HOST"], found["DB_PORT"]) == ("fd00::1", "tcp://[fd00::1]:1")
