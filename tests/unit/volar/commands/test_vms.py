# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def plugin(daemon: InProcessDaemon) -> None:
    daemon.install("lives")


def test_a_vm_lives_by_the_short_forms(volar: Volar, daemon: InProcessDaemon) -> None:
    assert volar("create", "one", "-p", "lives").exit_code == 0
    assert volar("wait", "vm/one").exit_code == 0
    (boot,) = [line for line in volar("get", "one").out.splitlines() if line.startswith("boot:")]
    assert re.fullmatch(
        r"boot: +disk [\d.]+ s, machine [\d.]+ s, agent [\d.]+ s, running [\d.]+ s, healthy [\d.]+ s", boot
    )
    assert volar("stop", "-t", "5", "one").out == "stopped one\n"
    again = volar("stop", "one")
    assert again.exit_code == 5, "the wrong state"
    assert "it is stopped" in again.err
    started = volar("start", "one")
    assert started.out == "started one\n"
    assert "one: running, healthy" in started.err
    assert volar("kill", "one").out == "stopped one\n"
    assert volar("wait", "one", "--for", "stopped").exit_code == 0
    assert volar("rm", "-f", "vm/one").out == "deleted one\n"
    assert volar("get", "one").exit_code == 4


def test_several_at_once_each_with_its_result(volar: Volar) -> None:
    for name in ("first", "second"):
        volar("create", name, "-p", "lives", "--no-start")
    done = volar("vms", "rm", "first", "nobody", "second")
    assert (done.exit_code, done.out) == (4, "deleted first\ndeleted second\n")
    assert volar("vms", "destroy", "second").exit_code == 4  # it is gone, and destroy is delete


def test_failure_to_boot_says_why(volar: Volar) -> None:
    done = volar("create", "bad", "-p", "lives", "-e", "FAKE=unbootable")
    assert done.exit_code == 10
    assert "cannot boot: no root disk" in done.err
    assert volar("wait", "bad", "--for", "running", "--timeout", "0").exit_code == 10
    assert volar("rm", "bad").exit_code == 0
