# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from support.exported_machines import IMAGE, make_document
from volant.errors import InvalidInput
from volant.volar.export.machine import Check, Port, describe_plugin, describe_vm, find_check, make_name


def make_plugin(**changes: Any) -> Any:
    manifest = {
        "workload": {"port": 80}, "resources": {"vcpu": 1, "memory_mb": 256}, "health_check": None, **changes
    }  # fmt: skip
    return {"name": "web_shop", "version": "1.2.0", "manifest": manifest}


def test_a_plugin_serves_the_port_that_its_manifest_names() -> None:
    found = describe_plugin(make_plugin(), make_document(), IMAGE)
    assert (found.name, found.ports, found.check) == ("web-shop", (Port(80, 80),), Check(80))
    quiet = describe_plugin(make_plugin(workload={"port": None}), make_document(), IMAGE)
    assert (quiet.ports, quiet.check) == ((), None)


def test_a_vm_is_what_it_was_made_with() -> None:
    port = {"host_ip": "127.0.0.1", "host_port": 8080, "guest_port": 80, "protocol": "tcp"}
    vm: Any = {
        "name": "db", "ports": [port, {**port, "host_ip": "::1"}], "resources": {"vcpu": 4, "memory_mb": 1024},
        "restart": "always", "labels": {"team": "web"},
    }  # fmt: skip
    found = describe_vm(vm, make_plugin(), make_document(), IMAGE)
    assert found.ports == (Port(8080, 80),), "published at two addresses it is one port of a Service"
    assert (found.vcpu, found.memory_mb, found.restart, found.labels) == (4, 1024, "always", {"team": "web"})


def test_milliseconds_are_whole_seconds_to_a_probe() -> None:
    check = {"endpoint": "/health", "interval_ms": 1500, "timeout_ms": 100, "retries": 5}
    assert find_check(make_plugin(health_check=check)) == Check(80, "/health", 2, 1, 5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nginx", "nginx"), ("my_vm", "my-vm"), ("9lives", "vm-9lives"), ("-a.b-", "a-b"), ("Shop", "shop")],
)
def test_a_name_becomes_one_of_kubernetes(name: str, expected: str) -> None:
    assert make_name(name) == expected


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="so long a name"):
        make_name("a" * 60)
