# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def vm(daemon: InProcessDaemon) -> None:
    daemon.install("talking")
    daemon.client.post("/vms", {"name": "talking", "plugin": "talking"})
    deadline = time.monotonic() + 60
    while not daemon.client.get_all("/vms", health="healthy") and time.monotonic() < deadline:
        time.sleep(0.05)


def test_lines_by_the_names_that_fingers_know(volar: Volar, daemon: InProcessDaemon) -> None:
    deadline = time.monotonic() + 60
    while not (done := volar("logs", "talking")).out and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.out == "[web] hello\n"
    assert volar("vms", "log", "vm/talking", "-t").out == "2026-01-01T00:00:00.000Z [web] hello\n"
    assert json.loads(volar("logs", "talking", "-o", "json").out)["line"] == "hello"
    assert volar("logs", "talking", "-n", "0").out == ""
    assert volar("logs", "talking", "--process", "other").out == ""
    assert volar("logs", "nobody").exit_code == 4


def test_following_ends_with_the_vm(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.client.post("/vms/talking/stop")
    assert volar("logs", "-f", "talking").out == "[web] hello\n"
    assert volar("logs", "-f", "--console", "talking").exit_code == 0
