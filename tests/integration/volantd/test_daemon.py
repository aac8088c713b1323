# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process, with guests that are processes too: its API, its kills and its adoptions."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon_process import Daemon, create, start_daemon, wait_until
from support.plugin_files import make_initramfs, make_plugin
from volant.volantd.boot.kernel import host_architecture


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def idle() -> Iterator[Daemon]:
    """A daemon for tests that leave it as it was."""
    with start_daemon() as daemon:
        yield daemon


def test_a_plugin_for_another_machine_makes_no_vm(idle: Daemon) -> None:
    other = {"amd64": "arm64", "arm64": "amd64"}[host_architecture()]
    payload = make_initramfs(image_json=json.dumps({"architecture": other}).encode())
    assert idle.call("POST", "/plugins", make_plugin("foreign", payload=payload))[0] == 201
    status, reply = idle.call("POST", "/vms", {"name": "foreign", "plugin": "foreign"})
    assert (status, f"plugin foreign is for {other}" in reply["error"]) == (422, True)
    assert idle.call("DELETE", "/plugins/foreign")[0] == 204


def read_events(daemon: Daemon) -> list[dict[str, Any]]:
    lines = daemon.call("GET", "/events/vms")[1].splitlines()
    return [json.loads(line[6:]) for line in lines if line[:6] == b"data: "]


def test_a_vm_from_create_to_delete(daemon: Daemon) -> None:
    vm = create(daemon, publish=[{"guest_port": 81}])
    wait_until(lambda: daemon.vm()["health"] == "healthy")
    vm = daemon.vm()
    assert vm["agent"] == {
        "connected": True,
        "version": "9.9",
        "protocol": 1,
        "missing": vm["agent"]["missing"],
    }
    assert "vsock-forward" in vm["agent"]["missing"]
    assert vm["ip"].startswith("127.127.")
    assert vm["url"] == f"http://{vm['ip']}:8080"
    assert [port["guest_port"] for port in vm["ports"]] == [8080, 81]
    wait_until(lambda: b"hello" in daemon.call("GET", "/vms/vm/logs")[1])
    status, result = daemon.call("POST", "/vms/vm/exec", {"command": ["echo", "a b"], "stdin_base64": "eA=="})
    assert (status, result["stdout"], result["exit_code"]) == (200, "echo 'a b'|x", 3)
    assert daemon.call("GET", "/vms/vm/stats")[1]["guest"]["uptime_seconds"] == 1
    assert daemon.call("POST", "/vms/vm/start")[1]["code"] == "wrong_state"
    assert daemon.call("DELETE", "/plugins/web")[0] == 409
    status, stopped = daemon.call("POST", "/vms/vm/stop")
    assert (status, stopped["status"], stopped["health"]) == (200, "stopped", "unknown")
    assert daemon.guests() == []
    assert b"hello" in daemon.call("GET", "/vms/vm/logs")[1]
    assert b"without a machine" in daemon.call("GET", "/vms/vm/console/log")[1]
    assert daemon.call("POST", "/vms/vm/start")[0] == 200
    wait_until(lambda: daemon.vm()["health"] == "healthy")
    assert daemon.call("DELETE", "/vms/vm")[0] == 204
    assert daemon.call("GET", "/vms/vm")[0] == 404
    assert daemon.guests() == []
    assert list((daemon.home / "vms").iterdir()) == []
    assert daemon.call("DELETE", "/plugins/web")[0] == 204
    assert list((daemon.home / "plugins" / "sha256").iterdir()) == []
    kinds = [event["kind"] for event in read_events(daemon)]
    assert kinds[0] == "created"
    assert kinds[-1] == "deleted"


def test_a_killed_daemon_adopts_its_vms(daemon: Daemon) -> None:
    create(daemon, restart="no")
    before = daemon.vm()
    daemon.kill()
    assert len(daemon.guests()) == 1
    daemon.start()
    after = wait_until(lambda: (found := daemon.vm())["agent"]["connected"] and found)
    assert after["status"] == "running"
    assert after["hypervisor"]["pid"] == before["hypervisor"]["pid"]
    assert daemon.call("GET", "/vms/vm/logs")[1].count(b"hello") == 1
    daemon.kill()
    os.kill(daemon.guests()[0], signal.SIGKILL)
    wait_until(lambda: not daemon.guests())
    daemon.start()
    failed = daemon.vm()
    assert failed["status"] == "failed"
    assert "while volantd was away" in failed["status_reason"]


def test_hung_vms_keep_nobody_from_the_daemon(daemon: Daemon) -> None:
    """Stopped processes: they neither end nor answer."""
    for name in ("hung", "well"):
        create(daemon, name)
    daemon.kill()
    hung = next(pid for pid in daemon.guests() if b"hung" in read_guest_name(pid))
    os.kill(hung, signal.SIGSTOP)
    daemon.start()
    assert daemon.vm("hung")["status"] == "running"
    wait_until(lambda: daemon.vm("well")["agent"]["connected"])
    assert daemon.call("POST", "/vms/well/exec", {"command": ["true"]})[0] == 200
    status, stopped = daemon.call("POST", "/vms/hung/stop", {"timeout_seconds": 2})
    assert status == 200, stopped
    assert stopped["status"] == "stopped"
    assert stopped["status_reason"].startswith("killed: its agent did not answer")
    assert len(daemon.guests()) == 1


def read_guest_name(pid: int) -> bytes:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    settings = next(Path(os.fsdecode(word)) for word in command if word.endswith(b"guest.json"))
    return str(json.loads(settings.read_text())["vm_name"]).encode()


def test_a_process_born_just_before_the_kill_is_found_again(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    daemon.start(FAKE_DIE="after-start")
    with pytest.raises((OSError, http.client.HTTPException)):
        daemon.call("POST", "/vms", {"name": "vm", "plugin": "web"})
    assert len(daemon.guests()) == 1
    daemon.start()
    vm = wait_until(lambda: (found := daemon.vm())["status"] == "running" and found)
    assert vm["hypervisor"]["pid"] == daemon.guests()[0]


def test_after_a_reboot_of_the_host_only_those_that_ran_and_may_are_started(daemon: Daemon) -> None:
    create(daemon, "again")
    create(daemon, "never", restart="no")
    create(daemon, "off")
    daemon.call("POST", "/vms/off/stop")
    daemon.kill()
    for pid in daemon.guests():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not daemon.guests())
    with contextlib.closing(sqlite3.connect(daemon.home / "volant.db")) as database:
        database.execute("UPDATE vms SET process = json_set(process, '$.boot_id', 'the boot before')")
        database.commit()
    daemon.start()
    wait_until(lambda: daemon.vm("again")["status"] == "running")
    assert (daemon.vm("never")["status"], daemon.vm("never")["status_reason"]) == (
        "stopped",
        "the host was restarted",
    )
    assert daemon.vm("off")["status"] == "stopped"
    told = [
        (event["vm"], event["data"]["status"])
        for event in read_events(daemon)
        if event["data"].get("reason") == "the host was restarted"
    ]
    assert sorted(told) == [("again", "stopped"), ("never", "stopped")]


def test_a_guest_that_cannot_boot_is_failed_with_its_last_words(daemon: Daemon) -> None:
    vm = create(daemon, env={"FAKE": "unbootable"})
    assert vm["status"] == "failed"
    assert vm["last_console_lines"][-1] == "[kestrel] cannot boot: no root disk"


def test_a_state_is_waited_for(daemon: Daemon) -> None:
    assert daemon.call("POST", "/vms", {"name": "vm", "plugin": "web"})[1]["status"] == "starting"
    assert daemon.call("GET", "/vms/vm?wait=healthy&timeout=50")[1]["health"] == "healthy"
    assert daemon.call("GET", "/vms/vm?wait=stopped&timeout=0.1")[1]["status"] == "running"
    os.kill(daemon.guests()[0], signal.SIGSTOP)  # its end is not before the wait
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(daemon.call, "GET", "/vms/vm?wait=stopped&timeout=50")
        time.sleep(0.2)
        daemon.call("POST", "/vms/vm/stop", {"force": True})
        assert asked.result()[1]["status"] == "stopped"
    assert daemon.call("GET", "/vms/vm?wait=healthy&timeout=50")[1]["status"] == "stopped"
    assert daemon.call("GET", "/vms/vm?wait=asleep")[0] == 422


def test_a_broken_workload_leaves_the_vm_up(daemon: Daemon) -> None:
    vm = create(daemon, env={"FAKE": "broken"})
    assert (vm["status"], vm["health"], vm["health_reason"]) == ("running", "unhealthy", "config line 3")


def test_a_killed_hypervisor_is_told(daemon: Daemon) -> None:
    create(daemon, restart="no")
    os.kill(daemon.vm()["hypervisor"]["pid"], signal.SIGKILL)
    vm = wait_until(lambda: (found := daemon.vm())["status"] == "failed" and found)
    assert "SIGKILL" in vm["status_reason"]
    assert vm["crash"] == {"kind": "signal", "exit_code": None, "signal": "SIGKILL", "line": ""}
    told = [line for line in daemon.call("GET", "/events/vms")[1].splitlines() if b'"failed"' in line]
    assert json.loads(told[0].removeprefix(b"data: "))["data"]["crash"] == vm["crash"]
    assert not vm["agent"]["connected"]


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_instant_leaves_a_consistent_world(daemon: Daemon, seed: int) -> None:
    """A client works while the daemon is killed again and again; afterwards every VM is whole or gone."""
    chance = random.Random(seed)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            work_blindly(daemon, seed)
            os._exit(0)
        time.sleep(chance.uniform(0.0, 0.8))
        daemon.kill()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        daemon.start()
    status, vms = daemon.call("GET", "/vms")
    assert status == 200
    for vm in vms:
        settled = wait_until(
            lambda vm=vm: (f := daemon.vm(vm["name"]))["status"] not in ("starting", "stopping") and f
        )
        assert settled["status"] in ("created", "running", "stopped"), settled
    pids = {vm["hypervisor"]["pid"] for vm in daemon.call("GET", "/vms")[1] if vm["status"] == "running"}
    assert set(daemon.guests()) == pids
    left = {path.name for path in (daemon.home / "vms").iterdir()} - {vm["id"] for vm in vms}
    assert not left, sorted((daemon.home / "vms").rglob("*"))
    plugins = daemon.call("GET", "/plugins")[1]
    stored = {path.name for path in (daemon.home / "plugins" / "sha256").iterdir()}
    assert stored == {plugin["checksum"].removeprefix("sha256:") for plugin in plugins}
    for vm in vms:
        assert daemon.call("DELETE", f"/vms/{vm['name']}?force=true")[0] == 204
    assert daemon.guests() == []


def work_blindly(daemon: Daemon, seed: int) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        for number in range(100):
            content = make_plugin(f"p{number}", payload=make_initramfs(os.urandom(1000)))
            daemon.call("POST", "/plugins", content)
            daemon.call("POST", "/vms", {"name": f"vm{number}", "plugin": "web"})
            daemon.call("POST", f"/vms/vm{number}/stop", {"force": number % 2 == 0})
            daemon.call("POST", f"/vms/vm{number}/start")
            daemon.call("DELETE", f"/plugins/p{number}")
            if number % 3 == seed % 3:
                daemon.call("DELETE", f"/vms/vm{number}")


@pytest.mark.parametrize(
    ("request_body", "status", "words"),
    [
        ({"name": "Not Good", "plugin": "web"}, 422, "lower-case"),
        ({"name": "x", "plugin": "nothing"}, 404, "installed: web:1.0.0"),
        ({"name": "x", "plugin": "web", "typo": 1}, 422, "typo"),
        ({"name": "x", "plugin": "web", "network": "bridged"}, 409, "volar setup"),
        ({"name": "x", "plugin": "web", "secrets": [{"name": "none"}]}, 404, "volar secrets set"),
        ({"name": "x", "plugin": "web", "resources": {"memory_mb": 1}}, 422, "memory_mb"),
        ({"name": "x", "plugin": "web", "env": {"a b": "c"}}, 422, "a b"),
        ({"name": "x", "plugin": "web", "user_data_base64": "!"}, 422, "base64"),
        ({"name": "x\n", "plugin": "web"}, 422, "lower-case"),
        ({"name": "x", "plugin": "web", "labels": {"\ud800": "\0"}}, 422, "zero byte"),
        ({"name": "x", "plugin": "web", "labels": {"\ud800": ""}}, 422, "surrogate"),
        ({"name": "x", "plugin": "web", "disk_size": "9" * 400}, 422, "cannot read the size"),
        ({"name": "x", "plugin": "web", "ssh_keys": ["junk"]}, 422, "SSH public key"),
        (
            {"name": "x", "plugin": "web", "publish": [{"guest_port": 80, "host_port": 70000}]},
            422,
            "host_port",
        ),
        (
            {"name": "x", "plugin": "web", "publish": [{"guest_port": 80, "host_ip": "203.0.113.9"}]},
            422,
            "203.0.113.9",
        ),
    ],
)
def test_bad_requests_get_one_clear_error_and_leave_nothing(
    idle: Daemon, request_body: dict[str, Any], status: int, words: str
) -> None:
    got, reply = idle.call("POST", "/vms", request_body)
    assert got == status
    assert set(reply) == {"error", "code", "details", "resolution", "request_id"}
    assert words in json.dumps(reply)
    assert idle.call("GET", "/vms")[1] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/vms/vm/logs?since=99999999d", None, 422),
        ("GET", f"/vms/vm/logs?tail={10**30}", None, 422),
        ("GET", f"/events/vms?after={10**30}", None, 422),
        ("GET", "/events/vms?after=-1", None, 422),
        ("GET", "/vms?label=%00%ff&limit=1", None, 200),
        ("GET", "/vms/%00%ff", None, 404),
        ("GET", "/plugins/%00", None, 404),
        ("POST", "/plugins", {"path": "/tmp/\0"}, 422),
        ("POST", "/plugins", {"url": "http://[::1"}, 422),
        ("POST", "/plugins", {"url": "http://h:99999/"}, 422),
        ("PUT", "/secrets/a", {"value_base64": "é"}, 422),
        ("PUT", "/secrets/a%0A", {"value_base64": ""}, 422),
        ("POST", "/vms/vm/exec", {"command": ["a\0b"]}, 422),
        ("POST", "/vms/vm/stop", b'{"timeout_seconds": Infinity}', 422),
        ("POST", "/vms", b"[" * 100_000, 400),
        ("POST", "/vms", b" " * (5 << 20), 413),
    ],
)
def test_hostile_requests_are_answered_with_what_is_wrong(
    idle: Daemon, method: str, path: str, body: Any, status: int
) -> None:
    headers = {"Content-Type": "application/json"} if isinstance(body, bytes) else {}
    idle.call("POST", "/vms", {"name": "vm", "plugin": "web", "start": False})
    got, reply = idle.call(method, path, body, **headers)
    assert got == status, reply
    idle.call("DELETE", "/vms/vm")


def test_clients_that_say_nothing_on_tcp_leave_the_socket_free(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon.start(VOLANT_LISTEN=f"127.0.0.1:{port}")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(400)]
        for client in silent:
            client.setblocking(False)
        wait_until(lambda: sum(is_closed(client) for client in silent) >= 400 - 256)
        assert daemon.call("GET", "/vms")[0] == 200
    log = (daemon.home / "daemon.log").read_text()
    assert log.count("refused a connection") == 1


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_name_taken_and_a_port_in_use(daemon: Daemon) -> None:
    create(daemon)
    status, reply = daemon.call("POST", "/vms", {"name": "vm", "plugin": "web"})
    assert (status, reply["code"]) == (409, "conflict")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        body = {"name": "x", "plugin": "web", "publish": [{"guest_port": 80, "host_port": port}]}
        status, reply = daemon.call("POST", "/vms", body)
    assert status == 409
    assert "in use" in reply["error"]
    assert "ss -ltnp" in reply["resolution"]
    assert [vm["name"] for vm in daemon.call("GET", "/vms")[1]] == ["vm"]


def test_without_a_kernel_creating_says_how_to_get_one(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    daemon.environment["VOLANT_KERNEL"] = str(daemon.home / "none")
    daemon.start()
    status, reply = daemon.call("POST", "/vms", {"name": "x", "plugin": "web"})
    assert status == 404
    assert "VOLANT_KERNEL" in reply["resolution"]
    assert daemon.call("GET", "/vms")[1] == []


def test_plugins_of_other_bytes_bad_sums_and_cut_archives_are_refused(idle: Daemon) -> None:
    assert idle.call("POST", "/plugins", make_plugin())[0] == 200
    status, reply = idle.call("POST", "/plugins", make_plugin(payload=make_initramfs(b"other")))
    assert (status, reply["code"]) == (409, "conflict")
    wrong = make_plugin("sum", initramfs={"path": "initramfs.cpio.gz", "checksum": "sha256:" + "0" * 64})
    assert idle.call("POST", "/plugins", wrong)[0] == 422
    assert idle.call("POST", "/plugins", make_plugin("cut")[:-100])[0] == 422
    assert idle.call("POST", "/plugins", b"not an archive")[0] == 422
    assert idle.call("POST", "/plugins", {"path": "/nowhere/at/all"})[0] == 404
    assert [plugin["name"] for plugin in idle.call("GET", "/plugins")[1]] == ["web"]
    assert list((idle.home / "plugins" / "incoming").iterdir()) == []
    assert len(list((idle.home / "plugins" / "sha256").iterdir())) == 1


def test_a_disabled_plugin_makes_no_new_vms(daemon: Daemon) -> None:
    assert daemon.call("POST", "/plugins/web/disable")[1]["enabled"] is False
    status, reply = daemon.call("POST", "/vms", {"name": "x", "plugin": "web"})
    assert (status, "enable" in reply["resolution"]) == (409, True)
    daemon.call("POST", "/plugins/web/enable")
    create(daemon)


def test_secrets_are_kept_closed_and_guarded_while_in_use(daemon: Daemon) -> None:
    value = b"hunter2-and-more"
    body = {"value_base64": base64.b64encode(value).decode()}
    assert daemon.call("PUT", "/secrets/key", body)[0] == 200
    for path in daemon.home.rglob("*"):
        if path.is_file():
            assert value not in path.read_bytes(), path
    assert (daemon.home / "secrets.key").stat().st_mode & 0o777 == 0o600
    create(daemon, secrets=[{"name": "key"}])
    assert daemon.vm()["secrets"] == ["key"]
    # This guest refuses the forwarding: the VM runs, and it is said what it lacks.
    assert "secrets" in wait_until(
        lambda: daemon.vm()["agent"]["connected"] and daemon.vm()["agent"]["missing"]
    )
    assert daemon.call("DELETE", "/secrets/key")[0] == 409
    daemon.call("DELETE", "/vms/vm?force=true")
    assert daemon.call("DELETE", "/secrets/key")[0] == 204


def test_a_web_page_does_not_get_in(idle: Daemon) -> None:
    assert idle.call("GET", "/vms", Origin="http://evil.example")[0] == 403
    assert idle.call("POST", "/vms/vm/stop", b"", **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert idle.socket.stat().st_mode & 0o777 == 0o600
    assert idle.socket.parent.stat().st_mode & 0o077 == 0


def test_tcp_wants_the_token_and_a_loopback_name(daemon: Daemon) -> None:
    daemon.kill(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon.start(VOLANT_LISTEN=f"127.0.0.1:{port}")
    token = (daemon.home / "token").read_text().strip()

    def ask(path: str = "/api/v1/vms", **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status

    wait_until(lambda: not socket.socket().connect_ex(("127.0.0.1", port)))
    assert ask() == 401
    assert ask(Authorization="Bearer wrong") == 401
    assert ask(Authorization=f"Bearer {token}") == 200
    assert ask(Authorization=f"Bearer {token}", Host="evil.example") == 403
    assert ask(Authorization=f"Bearer {token}", Origin="http://127.0.0.1") == 403
    assert ask("/kestrel/latest/linux-amd64") == 200


def test_a_second_daemon_of_the_same_home_is_refused(idle: Daemon) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from volant.volantd.cli import main; main()", "serve"],
        env=idle.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 5
    assert "another one works with" in done.stderr
    assert idle.call("GET", "/healthz", prefix="")[0] == 200
