# SPDX-License-Identifier: Apache-2.0
"""The line, end to end: the guide's quick start, and what may happen to its VM afterwards. One VM, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from support.host import Host, fetch, wait_until

NAME = "my-nginx"


@pytest.fixture(scope="module")
def vm(host: Host, nginx_plugin: Path) -> Iterator[str]:
    host.volar("vms", "create", NAME, "--plugin", "nginx")
    yield NAME
    host.volar("vms", "delete", NAME, "--force", check=False)


@pytest.mark.guide("2.1-2", "2.1-3", "5.1-1")
def test_create_returns_when_the_page_can_be_fetched(host: Host, vm: str) -> None:
    assert "Hello from Volant!" in fetch(host.vm(vm)["url"])


@pytest.mark.guide("3.8-3")
def test_the_guides_last_line_works_as_typed(host: Host, vm: str) -> None:
    line = f"curl --silent --fail http://$(volar vms get {vm} --output json | jq -r .ip)"
    done = host.run("sh", "-c", line)
    assert "Hello from Volant!" in done.stdout


@pytest.mark.guide("3.8-2")
def test_list_shows_the_vm(host: Host, vm: str) -> None:
    table = host.volar("vms", "list").stdout
    row = next(line for line in table.splitlines() if vm in line)
    assert "running" in row
    assert "nginx" in row


@pytest.mark.guide("5.2-3", "5.3-4")
def test_get_tells_health_checks_and_agent(host: Host, vm: str) -> None:
    found = host.vm(vm)
    assert found["status"] == "running"
    assert found["health"] == "healthy"
    assert [check["state"] for check in found["checks"]] == ["healthy"]
    assert found["agent"]["connected"]
    assert found["plugin"] == {"name": "nginx", "version": "1.0.0"}


@pytest.mark.guide("7.3-3", "7.3-4", "13.4-1", "13.4-2")
def test_ssh_runs_the_guides_commands(host: Host, vm: str) -> None:
    assert host.volar("vms", "ssh", vm, "which kestrel").stdout.strip() == "/usr/local/bin/kestrel"
    assert "nginx" in host.volar("vms", "ssh", vm, "cat /etc/kestrel/config.yaml").stdout
    assert host.volar("vms", "ssh", vm, "journalctl -u kestrel").stdout.strip()
    failed = host.volar("vms", "ssh", vm, "echo out; echo err >&2; exit 7", check=False)
    assert failed.returncode == 7
    assert failed.stdout == "out\n"
    assert "err" in failed.stderr


def test_logs_and_console_answer(host: Host, vm: str) -> None:
    host.volar("vms", "ssh", vm, "cat /proc/1/cmdline")
    assert "kestrel" in host.volar("vms", "logs", vm, "--console").stdout
    assert host.volar("vms", "logs", vm).returncode == 0


@pytest.mark.guide("5.3-1")
def test_the_agent_is_pid_1_and_the_disk_is_writable(host: Host, vm: str) -> None:
    assert host.volar("vms", "ssh", vm, "cat /proc/1/comm").stdout == "kestrel\n"
    assert " / ext4 rw" in host.volar("vms", "ssh", vm, "cat /proc/mounts").stdout


def test_the_guest_reaches_no_service_on_the_hosts_loopback(host: Host, vm: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(0)
        port = service.getsockname()[1]
        command = f"timeout 3 bash -c 'exec 3<>/dev/tcp/10.0.2.2/{port}' && echo reached || echo refused"
        assert host.volar("vms", "exec", vm, "--", "sh", "-c", command).stdout.strip() == "refused"
        with pytest.raises(BlockingIOError):
            service.accept()


@pytest.mark.guide("1-1", "8.2-1", "10-3")
def test_a_restart_keeps_what_the_guest_wrote(host: Host, vm: str) -> None:
    host.volar("vms", "ssh", vm, "echo kept > /root/kept")
    host.volar("vms", "update", vm, "--kernel-arguments", 'volant.trial="a b"')
    assert host.vm(vm)["pending"] == ["kernel_arguments"]
    host.volar("vms", "restart", vm)
    assert 'volant.trial="a b"' in host.volar("vms", "ssh", vm, "cat /proc/cmdline").stdout
    assert host.vm(vm)["pending"] == []
    assert host.volar("vms", "ssh", vm, "cat /root/kept").stdout == "kept\n"
    assert "Hello from Volant!" in fetch(host.vm(vm)["url"])


def test_the_plugin_in_use_cannot_be_removed(host: Host, vm: str) -> None:
    refused = host.volar("plugins", "remove", "nginx", check=False)
    assert refused.returncode != 0
    assert vm in refused.stderr


def test_a_killed_daemon_leaves_the_vm_serving_and_adopts_it(host: Host, vm: str) -> None:
    before = host.vm(vm)
    os.kill(host.daemon_pid(), signal.SIGKILL)
    assert "Hello from Volant!" in fetch(before["url"])
    after = wait_until("adoption", lambda: (found := host.vm(vm))["agent"]["connected"] and found)
    assert after["status"] == "running"
    assert after["hypervisor"]["pid"] == before["hypervisor"]["pid"]
    assert after["health"] == "healthy"
    assert host.volar("vms", "ssh", vm, "echo again").stdout == "again\n"


def read_clock_lag(url: str) -> float:
    """Seconds by which a guest's clock is behind the host's, by the Date of its web server (whole seconds)."""
    with urllib.request.urlopen(url, timeout=10) as reply:
        return time.time() - parsedate_to_datetime(reply.headers["Date"]).timestamp()


async def pause(qmp_socket: Path, seconds: float) -> None:
    qmp = QMPClient()
    await qmp.connect(str(qmp_socket))
    await qmp.execute("stop")
    await asyncio.sleep(seconds)
    await qmp.execute("cont")
    await qmp.disconnect()


def test_a_guest_that_was_paused_gets_the_time_back(host: Host, vm: str) -> None:
    found = host.vm(vm)
    os.kill(host.daemon_pid(), signal.SIGKILL)  # a monitor socket has one client
    (qmp_socket,) = [path for path in host.home.rglob("qmp.sock") if found["id"] in str(path)]
    asyncio.run(pause(qmp_socket, 5))
    assert read_clock_lag(found["url"]) > 4
    host.vm(vm)
    wait_until("the right time", lambda: abs(read_clock_lag(found["url"])) < 2)


@pytest.mark.guide("7.3-2", "13.3-1")
def test_stop_and_start(host: Host, vm: str) -> None:
    host.volar("vms", "stop", vm)
    assert host.vm(vm)["status"] == "stopped"
    assert "kestrel" in host.volar("vms", "logs", vm, "--console").stdout
    host.volar("vms", "start", vm)
    assert "Hello from Volant!" in fetch(host.vm(vm)["url"])


def test_a_killed_hypervisor_is_a_failed_vm_with_a_reason_that_comes_back(host: Host, vm: str) -> None:
    before = host.vm(vm)
    os.kill(before["hypervisor"]["pid"], signal.SIGKILL)
    wait_until("restart", lambda: (found := host.vm(vm))["restarts"] == 1 and found["agent"]["connected"])
    told = host.volar("events", "vms", "--vm", vm, "--output", "json").stdout
    assert "SIGKILL" in told or "killed" in told.lower()
    assert host.vm(vm)["hypervisor"]["pid"] != before["hypervisor"]["pid"]
    assert host.volar("vms", "ssh", vm, "cat /root/kept").stdout == "kept\n"


def test_delete_leaves_nothing(host: Host, vm: str) -> None:
    found = host.vm(vm)
    host.volar("vms", "delete", vm)
    assert host.volar("vms", "get", vm, check=False).returncode == 4
    assert not Path(f"/proc/{found['hypervisor']['pid']}").exists()
    left = [path for path in host.home.rglob("*") if found["id"] in path.name]
    assert left == []
    done = subprocess.run(["curl", "--silent", "--max-time", "3", found["url"]], capture_output=True)
    assert done.returncode != 0
