# SPDX-License-Identifier: Apache-2.0
"""VMs that wake from a template: each with its own disk, network, settings and secrets, and like no other."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.host import Host, fetch, wait_until

# What must differ in two VMs, one a line.
IDENTITY = """\
cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid /etc/machine-id /sys/class/net/eth0/address
od -An -N16 -tx1 /dev/urandom | tr -d ' '
awk '/^Sockets|ssh-ed25519/' /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null
hostname
"""
USER_DATA = """\
#cloud-config
write_files:
  - path: /from-user-data
    content: applied
"""


@pytest.fixture(scope="module")
def template(host: Host, nginx_plugin: Path) -> Iterator[dict[str, Any]]:
    """Made after a boot, by a daemon that is told to; an older one of this run's other tests is not taken."""
    host.environment["VOLANT_WARM_START"] = "on"
    host.volar("daemon", "stop")
    host.volar("system", "warm", "clear")
    host.volar("vms", "create", "first", "--plugin", "nginx", "--cold")
    assert host.vm("first")["started_from"] == "boot"
    wait_until("a template", lambda: list_templates(host), timeout_seconds=240)
    yield list_templates(host)[0]
    for name in ("first", "warm-a", "warm-b", "warm-c"):
        host.volar("vms", "delete", name, "--force", check=False)
    host.volar("secrets", "delete", "warm-key", check=False)
    host.volar("daemon", "stop")
    del host.environment["VOLANT_WARM_START"]


def list_templates(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.volar("system", "warm", "list", "-o", "json").stdout)
    return found


def run_in(host: Host, vm: str, command: str) -> str:
    return host.volar("vms", "ssh", vm, command).stdout


def test_vms_wake_from_a_template_and_share_nothing(
    host: Host, template: dict[str, Any], tmp_path: Path
) -> None:
    folder = host.home / "cache" / "templates" / template["key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.stat().st_uid == os.geteuid()
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "memory": 0o600, "state": 0o600, "template.json": 0o600,
    }  # fmt: skip
    (tmp_path / "user-data").write_text(USER_DATA)
    host.volar("secrets", "set", "warm-key", stdin="of a warm VM")
    plain = ("vms", "create", "warm-a", "--plugin", "nginx")
    rich = ("--disk-size", "12G", "--env", "GREETING=hello", "--secret", "warm-key")
    host.volar(*plain)
    host.volar(
        "vms", "create", "warm-b", "--plugin", "nginx", *rich, "--cloud-init", str(tmp_path / "user-data")
    )
    for name in ("warm-a", "warm-b"):
        vm = host.vm(name)
        assert (vm["started_from"], vm["health"], vm["warnings"]) == ("template", "healthy", [])
        assert "Hello from Volant!" in fetch(vm["url"])
        assert abs(float(run_in(host, name, "date +%s")) - float(host.run("date", "+%s").stdout)) <= 2
    seen = {name: run_in(host, name, IDENTITY).splitlines() for name in ("first", "warm-a", "warm-b")}
    for values in zip(*seen.values(), strict=True):
        assert len(set(values)) == 3, values
    assert seen["warm-a"][-1] == "warm-a"
    # What was asked for one of them.
    assert 11_000 < int(run_in(host, "warm-b", "df -m / | awk 'NR==2 {print $2}'")) < 12_300
    assert int(run_in(host, "warm-a", "df -m / | awk 'NR==2 {print $2}'")) < 10_300
    assert run_in(host, "warm-b", "cat /from-user-data") == "applied"
    assert [run_in(host, name, "echo $GREETING") for name in ("warm-a", "warm-b")] == ["\n", "hello\n"]
    answered = host.volar("vms", "exec", "warm-b", "--", "socat", "VSOCK-CONNECT:2:9000", "STDOUT")
    assert answered.stdout == "of a warm VM"
    # The template knew nothing of the VM after whose boot it was made.
    memory = (folder / "memory").read_bytes()
    assert host.vm("first")["id"].encode() not in memory
    assert b"kestrel" in memory


def test_a_start_is_warm_or_cold_as_asked_and_keeps_the_disk(host: Host, template: dict[str, Any]) -> None:
    host.volar("vms", "create", "warm-c", "--plugin", "nginx")
    run_in(host, "warm-c", "echo kept > /root/mark && sync")
    host.volar("vms", "stop", "warm-c")
    host.volar("vms", "start", "warm-c", "--cold")
    assert (host.vm("warm-c")["started_from"], run_in(host, "warm-c", "cat /root/mark")) == ("boot", "kept\n")
    # A daemon that is killed leaves it, and the next one finds the template.
    os.kill(host.daemon_pid(), signal.SIGKILL)
    host.volar("vms", "restart", "warm-c")
    assert (host.vm("warm-c")["started_from"], run_in(host, "warm-c", "cat /root/mark")) == (
        "template",
        "kept\n",
    )
    # It can be snapshotted as one that booted.
    host.volar("vms", "fork", "warm-c", "warm-d", timeout=300)
    assert run_in(host, "warm-d", "hostname; cat /root/mark") == "warm-d\nkept\n"
    assert host.vm("warm-d")["started_from"] == "snapshot"
    host.volar("vms", "delete", "warm-d", "warm-c", "--force")


def test_a_template_that_does_not_do_is_told_and_the_vm_boots(host: Host, template: dict[str, Any]) -> None:
    state = host.home / "cache" / "templates" / template["key"] / "state"
    state.write_bytes(state.read_bytes()[:5000])
    host.volar("vms", "create", "warm-c", "--plugin", "nginx")
    vm = host.vm("warm-c")
    assert (vm["started_from"], vm["health"]) == ("boot", "healthy")
    events = [json.loads(line) for line in host.volar("events", "vms", "-o", "json").stdout.splitlines()]
    told = [event for event in events if event["kind"] == "cold_boot" and event["vm"] == "warm-c"]
    assert len(told) == 1
    assert told[0]["data"]["cause"]
    assert template["key"] not in [found["key"] for found in list_templates(host)]
