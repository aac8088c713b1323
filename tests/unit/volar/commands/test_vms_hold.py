# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volantd.vms import waking


def read_status(daemon: InProcessDaemon, name: str) -> str:
    return daemon.client.get_vm(name)["status"]


def test_a_vm_is_paused_and_goes_on(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("held")
    assert volar("create", "one", "-p", "held").exit_code == 0
    assert volar("pause", "one").out == "paused one\n"
    assert read_status(daemon, "one") == "paused"
    refused = volar("vms", "exec", "one", "--", "true")
    assert (refused.exit_code, "it is paused" in refused.err) == (5, True)
    assert "volar vms unpause one" in refused.err
    assert volar("pause", "one").exit_code == 5
    assert volar("unpause", "one").out == "unpaused one\n"
    assert volar("vms", "unpause", "one").exit_code == 5
    assert volar("pause", "one").exit_code == 0
    assert volar("stop", "one").out == "stopped one\n"  # in order: it goes on for it


def test_a_vm_sleeps_and_goes_on(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("held")
    assert volar("create", "two", "-p", "held").exit_code == 0
    vm: Any = daemon.client.get_vm("two")
    pid = vm["hypervisor"]["pid"]
    assert volar("suspend", "two").out == "suspended two\n"
    assert read_status(daemon, "two") == "suspended"
    refused = volar("vms", "exec", "two", "--", "true")
    assert (refused.exit_code, "volar vms resume two" in refused.err) == (5, True)
    assert volar("resume", "two").out == "resumed two\n"
    vm = daemon.client.get_vm("two")
    assert (vm["status"], vm["hypervisor"]["pid"] != pid) == ("running", True)
    assert volar("vms", "resume", "two").exit_code == 5
    # `start` means the same, and what is asked to stop in order cannot while it sleeps.
    assert volar("vms", "suspend", "two").exit_code == 0
    refused = volar("stop", "two")
    assert (refused.exit_code, "--force" in refused.err) == (5, True)
    assert volar("start", "two").exit_code == 0
    assert volar("vms", "suspend", "two").exit_code == 0
    assert volar("stop", "two", "--force").out == "stopped two\n"
    assert volar("vms", "suspend", "two").exit_code == 5
    assert volar("rm", "two").exit_code == 0


def test_one_whose_memory_is_of_no_use_says_why_it_boots(
    volar: Volar, daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise waking.CannotWake("its memory is of another machine")

    daemon.install("held")
    assert volar("create", "three", "-p", "held").exit_code == 0
    assert volar("snapshots", "create", "three", "then").exit_code == 0
    assert volar("suspend", "three").exit_code == 0
    monkeypatch.setattr(waking, "check_fit", refuse)
    told = "its memory cannot be used: its memory is of another machine\n"
    assert volar("resume", "three").out == f"three boots, because {told}"
    assert volar("restore", "three", "then").err == f"three boots, because {told}"
    made = volar("create", "four", "--from-snapshot", "then")
    assert made.exit_code == 0 and "four booted from its disk: its memory is of another machine" in made.err
