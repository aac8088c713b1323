# SPDX-License-Identifier: Apache-2.0
"""One command beside a stack, and the ends of its VMs."""

from __future__ import annotations

from support.in_process_daemon import InProcessDaemon
from unit.volar.commands.conftest import Shop


def test_vms_are_killed_and_removed(shop: Shop, daemon: InProcessDaemon) -> None:
    assert shop("up", "-d", "--wait").exit_code == 0
    assert shop("rm", "-f").err == "no stopped VMs\n"
    assert shop("kill", "web").exit_code == 0
    assert {vm["name"]: vm["status"] for vm in daemon.client.list_vms()} == {
        "shop-db-1": "running", "shop-web-1": "stopped",
    }  # fmt: skip
    assert shop("rm", "-f").err == "shop-web-1: removed\n"
    assert shop("rm", "-fs", "db").exit_code == 0
    assert daemon.client.list_vms() == []
    assert shop("kill", "-s", "HUP").exit_code == 3


def test_one_command_beside_the_stack(shop: Shop, daemon: InProcessDaemon) -> None:
    done = shop("run", "-d", "-e", "B=2", "-w", "/srv", "web", "migrate", "--all")
    assert done.exit_code == 0, done.err
    name = done.out.strip()
    assert name.startswith("shop-web-run-")
    vm = daemon.client.get_vm(name)
    assert all(port["guest_port"] != 80 for port in vm["ports"]), "the service's own are not published"
    assert (vm["restart"], vm["aliases"]) == ("no", [])
    assert vm["labels"] == {"volant.compose.project": "shop", "volant.compose.one-off": "web"}
    assert {each["name"] for each in daemon.client.list_vms()} == {name, "shop-db-1"}, "what it needs is up"
    again = shop("up", "-d", "--wait")
    assert (again.exit_code, "of no service" in again.err) == (0, False)
    assert name not in shop("ps").out
    assert shop("down").exit_code == 0
    assert daemon.client.list_vms() == []
