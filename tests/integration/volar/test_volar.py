# SPDX-License-Identifier: Apache-2.0
"""volar as a program, against a daemon whose guests are processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import VOLAR, Daemon, start_daemon, wait_until
from support.plugin_files import make_plugin


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def volar(daemon: Daemon, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VOLAR, *arguments], env=daemon.environment, capture_output=True, text=True, timeout=90, input=stdin
    )


def test_the_life_of_a_vm_on_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "cli.tar.gz"
    archive.write_bytes(make_plugin("cli"))
    assert "installed cli 1.0.0" in volar(daemon, "plugins", "install", str(archive)).stdout
    assert volar(daemon, "plugins", "list", "-o", "name").stdout.splitlines() == [
        "plugin/cli:1.0.0",
        "plugin/web:1.0.0",
    ]
    created = volar(daemon, "vms", "create", "one", "--plugin", "cli", "--memory", "64", "--label", "a=b")
    assert created.returncode == 0, created.stderr
    assert "one is running at http://127.127." in created.stdout
    vm = json.loads(volar(daemon, "vms", "get", "one", "--output", "json").stdout)
    assert (vm["status"], vm["health"], vm["resources"]) == (
        "running",
        "healthy",
        {"vcpu": 1, "memory_mb": 64, "nested": False},
    )
    table = volar(daemon, "vms", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATUS", "HEALTH"]
    assert table[1].split()[:4] == ["one", "running", "healthy", "cli:1.0.0"]
    wait_until(lambda: volar(daemon, "vms", "logs", "one").stdout == "[web] hello\n")
    refused = volar(daemon, "plugins", "remove", "cli")
    assert refused.returncode == 5
    assert "VM one" in refused.stderr
    assert volar(daemon, "stop", "vm/one").returncode == 0
    assert volar(daemon, "vms", "stop", "one").returncode == 5
    assert volar(daemon, "vms", "logs", "one", "--console").stdout.startswith("[kestrel]")
    assert volar(daemon, "vms", "delete", "one").returncode == 0
    gone = volar(daemon, "vms", "get", "one")
    assert gone.returncode == 4
    assert "cannot find VM one" in gone.stderr
    assert volar(daemon, "plugins", "remove", "cli").returncode == 0


def test_create_fails_with_the_lines_that_matter(daemon: Daemon) -> None:
    failed = volar(daemon, "vms", "create", "bad", "--plugin", "web", "--env", "FAKE=unbootable")
    assert failed.returncode == 10
    assert "cannot boot: no root disk" in failed.stderr
    assert volar(daemon, "vms", "delete", "bad").returncode == 0


def test_a_command_that_ends_before_anybody_looks_has_run(daemon: Daemon) -> None:
    for line in ("vms create quick --plugin web --env FAKE=result", "run --name quick2 -e FAKE=result web"):
        done = volar(daemon, *line.split())
        assert done.returncode == (10 if line.startswith("vms") else 3), done.stderr
    for name in ("quick", "quick2"):
        vm = daemon.vm(name)
        assert (vm["status"], vm["exit_code"]) == ("stopped", 3)
        assert volar(daemon, "rm", name).returncode == 0


def test_a_name_taken_leaves_the_first_alone(daemon: Daemon) -> None:
    assert volar(daemon, "vms", "create", "taken", "--plugin", "web").returncode == 0
    again = volar(daemon, "vms", "create", "taken", "--plugin", "web")
    assert again.returncode == 5
    assert "the name is taken" in again.stderr
    assert daemon.vm("taken")["status"] == "running"
    assert volar(daemon, "vms", "delete", "taken", "--force").returncode == 0


def has_socket(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(link).startswith("socket:") for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.parametrize(
    "line", ["vms create half --plugin web", "run -d --name half", "run --rm --name half"]
)
@pytest.mark.parametrize("moment", ["boot", "request"])
def test_ctrl_c_while_it_comes_up_leaves_nothing(daemon: Daemon, moment: str, line: str) -> None:
    arguments = [*line.split(), "--env", "FAKE=silent", *(["web"] if line.startswith("run") else [])]
    process = subprocess.Popen(
        [*VOLAR, *arguments],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if moment == "boot":
        wait_until(lambda: daemon.call("GET", "/vms/half")[0] == 200)
        time.sleep(0.5)
    else:
        wait_until(lambda: has_socket(process.pid))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 or process.returncode == -signal.SIGINT, errors
    assert "Traceback" not in errors
    assert daemon.call("GET", "/vms/half")[0] == 404
    assert daemon.call("GET", "/vms")[1] == []
    wait_until(lambda: not daemon.guests())


def test_a_plugin_that_is_not_there_or_cut_short(daemon: Daemon, tmp_path: Path) -> None:
    missing = volar(daemon, "plugins", "install", str(tmp_path / "none.tar.gz"))
    assert (missing.returncode, "fledge build" in missing.stderr) == (4, True)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(make_plugin("cut")[:-200])
    refused = volar(daemon, "plugins", "install", str(cut))
    assert refused.returncode == 3
    assert refused.stderr.startswith("error: ")
    assert "cut" not in volar(daemon, "plugins", "list").stdout


def test_secrets_come_from_standard_input(daemon: Daemon) -> None:
    assert volar(daemon, "secrets", "set", "token", stdin="abc\n").returncode == 0
    rows = json.loads(volar(daemon, "secrets", "list", "-o", "json").stdout)
    assert [(row["name"], row["size_bytes"]) for row in rows] == [("token", 4)]
    assert volar(daemon, "secrets", "remove", "token").returncode == 0


def test_following_a_log_survives_a_restart_of_the_daemon(daemon: Daemon) -> None:
    assert volar(daemon, "vms", "create", "talks", "--plugin", "web").returncode == 0
    following = subprocess.Popen(
        [*VOLAR, "logs", "-f", "talks"],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "[web] hello\n"
    for is_asked in (False, True):
        if is_asked:
            assert (
                "sessions and port-forwards through it have ended" in volar(daemon, "daemon", "stop").stdout
            )
        else:
            daemon.kill()
        time.sleep(0.5)
        assert following.poll() is None
        daemon.start()
        wait_until(lambda: daemon.vm("talks")["agent"]["connected"])
    assert volar(daemon, "vms", "stop", "talks").returncode == 0
    rest, errors = following.communicate(timeout=60)
    assert (following.returncode, rest, errors) == (0, "", "")
    assert volar(daemon, "rm", "talks").returncode == 0


def test_nobody_answers(daemon: Daemon) -> None:
    done = volar(daemon, "--api", "/nowhere/volantd.sock", "vms", "list")
    assert done.returncode == 11
    assert "cannot reach volantd" in done.stderr


def test_the_hot_path_imports_nothing_heavy() -> None:
    code = "import sys, volant.volar.cli as cli; cli.run(['ps', '--help']); print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert not {"pydantic", "rich", "httpx", "asyncssh", "websockets", "fastapi", "dataclasses"} & set(
        done.stdout.split()
    )
