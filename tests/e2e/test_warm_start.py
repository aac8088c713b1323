# SPDX-License-Identifier: Apache-2.0
"""VMs that wake from a template: each with its own disk, network, settings and secrets, and like no other."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.early_visitors import early_visitors
from support.host import ROOT, Host, fetch, wait_until

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


@pytest.fixture(scope="module")
def warm_plugin(host: Host, nginx_plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same image as a plugin whose VMs are copies of one that is up."""
    folder = tmp_path_factory.mktemp("warm") / "nginx"
    shutil.copytree(ROOT / "examples" / "nginx", folder)
    recipe = folder / "fledge.toml"
    text = recipe.read_text().replace('name = "nginx"', 'name = "nginx-warm"')
    recipe.write_text(text.replace("[plugin.manifest]", '[plugin.manifest]\nwarm = "workload"'))
    host.run("fledge", "build", "--builder", "buildah", "--output", "warm.tar.gz", cwd=folder, timeout=600)
    host.volar("plugins", "install", str(folder / "warm.tar.gz"))
    yield "nginx-warm"
    names = [f"work-{letter}" for letter in "abcde"]
    host.volar("vms", "delete", *names, "--force", check=False)
    host.volar("plugins", "remove", "nginx-warm", check=False)


def is_running(pid: int) -> bool:
    """Its socket accepts for as long as one of its threads has not ended."""
    try:
        is_dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not is_dead or len(os.listdir(f"/proc/{pid}/task")) > 1
    except FileNotFoundError:
        return False


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
    url = host.vm("warm-c")["url"]
    host.volar("vms", "stop", "warm-c")
    with early_visitors(url, "Hello from Volant!"):
        host.volar("vms", "start", "warm-c", "--cold")
    assert (host.vm("warm-c")["started_from"], run_in(host, "warm-c", "cat /root/mark")) == ("boot", "kept\n")
    # A daemon that is killed leaves it, and the next one finds the template.
    daemon = host.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    wait_until("the daemon's end", lambda: not is_running(daemon))
    host.volar("vms", "stop", "warm-c")
    with early_visitors(url, "Hello from Volant!"):
        host.volar("vms", "start", "warm-c")
    assert (host.vm("warm-c")["started_from"], run_in(host, "warm-c", "cat /root/mark")) == (
        "template",
        "kept\n",
    )
    # It can be snapshotted as one that booted.
    host.volar("vms", "fork", "warm-c", "warm-d", timeout=300)
    assert run_in(host, "warm-d", "hostname; cat /root/mark") == "warm-d\nkept\n"
    assert host.vm("warm-d")["started_from"] == "snapshot"
    host.volar("vms", "delete", "warm-d", "warm-c", "--force")


# When nginx's first process was started, in ticks since its machine's boot.
STARTED = "awk '{print $22}' /proc/$(pgrep -o nginx || pidof -s nginx)/stat"


def test_vms_of_a_plugin_that_says_so_are_copies_of_one_that_is_up(
    host: Host, template: dict[str, Any], warm_plugin: str, tmp_path: Path
) -> None:
    def list_of_workloads() -> list[dict[str, Any]]:
        return [found for found in list_templates(host) if found["plugin"] == "nginx-warm:1.0.0"]

    host.volar("vms", "create", "work-a", "--plugin", warm_plugin)
    assert host.vm("work-a")["started_from"] in ("template", "boot")
    wait_until("a template of the workload", list_of_workloads, timeout_seconds=300)
    copies = ("work-b", "work-c")
    key = tmp_path / "key"
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    for name, options in zip(copies, ((), ("--ssh-key", f"{key}.pub")), strict=True):
        host.volar("vms", "create", name, "--plugin", warm_plugin, *options)
        assert "Hello from Volant!" in fetch(host.vm(name)["url"])
        vm = host.vm(name)
        assert (vm["started_from"], vm["health"], vm["warnings"]) == ("workload", "healthy", [])
        assert abs(float(run_in(host, name, "date +%s")) - float(host.run("date", "+%s").stdout)) <= 2
    # A door for people on the network is opened where one of them has a key.
    doors = [run_in(host, name, "cat /proc/net/tcp6 | grep -c ':0016 ' || true") for name in copies]
    assert doors == ["0\n", "1\n"]
    # The workload is the template's own process, and all else is another machine's.
    assert len({run_in(host, name, STARTED) for name in copies}) == 1
    seen = [run_in(host, name, IDENTITY).splitlines() for name in ("work-a", *copies)]
    for values in zip(*seen, strict=True):
        assert len(set(values)) == 3, values
    assert seen[1][-1] == "work-b"
    (found,) = list_of_workloads()
    folder = host.home / "cache" / "templates" / found["key"]
    assert {path.name for path in folder.iterdir()} == {"memory", "state", "disk", "template.json"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert host.vm("work-a")["id"].encode() not in (folder / "memory").read_bytes()
    # What the template's workload was not started with, it cannot have: another start, and what is on the disk stays.
    host.volar("vms", "create", "work-d", "--plugin", warm_plugin, "--env", "GREETING=hello")
    assert host.vm("work-d")["started_from"] == "template"
    run_in(host, "work-b", "echo kept > /root/mark && sync")
    host.volar("vms", "restart", "work-b")
    assert (host.vm("work-b")["started_from"], run_in(host, "work-b", "cat /root/mark")) == (
        "template",
        "kept\n",
    )
    # One that cannot wake boots, from a disk that no other VM had.
    (folder / "state").write_bytes((folder / "state").read_bytes()[:5000])
    host.volar("vms", "create", "work-e", "--plugin", warm_plugin)
    assert host.vm("work-e")["started_from"] == "template"
    assert run_in(host, "work-e", "cat /etc/machine-id") not in [lines[2] + "\n" for lines in seen]
    assert list_of_workloads() == []


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
