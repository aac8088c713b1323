# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_disk_plugin
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def plugin(daemon: InProcessDaemon) -> None:
    daemon.install("made", resources={"vcpu": 3, "memory_mb": 200})


def test_what_is_said_reaches_the_daemon_and_the_rest_stays_the_plugins(volar: Volar, tmp_path: Path) -> None:
    env = tmp_path / "app.env"
    env.write_text("# settings\nA=file\nB=file\n")
    done = volar(
        "vms", "create", "said", "--plugin", "made", "--memory", "1g", "-e", "A=option", "--env-file", str(env),
        "--label", "tier=web", "--restart", "no", "--no-start", "-o", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.err
    (vm,) = json.loads(done.out)
    assert vm["resources"] == {"vcpu": 3, "memory_mb": 1024, "nested": False}
    assert vm["labels"] == {"tier": "web"}
    assert (vm["restart"], vm["status"]) == ("no", "created")


def test_a_running_vm_is_announced_with_its_address(volar: Volar, daemon: InProcessDaemon) -> None:
    done = volar("create", "up", "-p", "made")
    assert done.exit_code == 0, done.err
    assert done.out == f"up is running at {daemon.client.get_vm('up')['url']}\n"
    assert "up: starting" in done.err.splitlines()


def test_a_policy_that_the_daemon_does_not_know_is_its_error(volar: Volar) -> None:
    done = volar("create", "odd", "-p", "made", "--restart", "sometimes")
    assert done.exit_code == 3
    assert "restart" in done.err


def test_a_whole_system_is_announced_where_its_ssh_server_is(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.upload(make_disk_plugin("whole"))
    done = volar("create", "whole", "-p", "whole", "--no-start")
    assert done.exit_code == 0, done.err
    vm = daemon.client.get_vm("whole")
    assert [port["guest_port"] for port in vm["ports"]] == [8080, 22]
    assert {port["host_ip"] for port in vm["ports"]} == {vm["ip"]}
    ssh_port = vm["ports"][1]["host_port"]
    assert f"{vm['ip']}:{ssh_port} → 22/tcp" in done.out


def test_a_vm_without_ports_is_not_announced_at_an_address(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("silent", workload={"type": "daemon"})
    done = volar("create", "silent", "-p", "silent", "--no-start")
    assert "127." not in done.out
    assert "--publish" in done.out
