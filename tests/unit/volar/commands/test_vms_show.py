# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volar.commands.vms_show import describe


@pytest.fixture(scope="module", autouse=True)
def vms(daemon: InProcessDaemon) -> None:
    daemon.install("shown")
    for name, labels in (("db", {"tier": "data", "stage": "test"}), ("web", {"tier": "front"})):
        daemon.client.post("/vms", {"name": name, "plugin": "shown", "start": False, "labels": labels})


@pytest.mark.parametrize("words", [["vms", "list"], ["ps", "-a"], ["vms", "ls"], ["ls"], ["vm", "ps"]])
def test_lists_go_by_the_names_that_fingers_know(volar: Volar, words: list[str]) -> None:
    heading, *rows = volar(*words).out.splitlines()
    assert heading.split() == ["NAME", "STATUS", "HEALTH", "PLUGIN", "IP", "URL", "AGE"]
    assert [row.split()[0] for row in rows] == ["db", "web"]


def test_labels_are_shown_and_filtered_by(volar: Volar) -> None:
    assert volar("ps", "-q", "-l", "tier=data", "-l", "stage=test").out == "db\n"
    assert volar("ps", "-q", "-l", "tier=data", "-l", "stage=live").out == ""
    assert volar("ps", "--selector", "tier").exit_code == 2
    wide = volar("vms", "list", "-o", "wide").out.splitlines()
    assert "LABELS" in wide[0]
    assert "tier=data,stage=test" in wide[1]
    assert "labels:     tier=data" in volar("get", "db").out.replace("labels:             ", "labels:     ")


def test_get_shows_the_restart_field_as_the_api_gives_it(volar: Volar) -> None:
    (line,) = [line for line in volar("vms", "get", "db").out.splitlines() if line.startswith("restart:")]
    assert line.split() == ["restart:", "on-failure"]


def test_inspect_is_an_array_of_everything(volar: Volar) -> None:
    found = json.loads(volar("inspect", "vm/db", "web").out)
    assert [vm["name"] for vm in found] == ["db", "web"]
    assert found[0]["labels"]["tier"] == "data"


def test_get_prints_a_document_for_programs(volar: Volar) -> None:
    assert json.loads(volar("get", "db", "-o", "json").out)["name"] == "db"
    assert volar("get", "db", "-o", "name").out == "vm/db\n"
    assert volar("get", "nobody").exit_code == 4


def test_every_fact_of_a_vm_that_runs_is_described(daemon: InProcessDaemon) -> None:
    vm: Any = daemon.client.get_vm("db")
    vm["processes"] = [
        {
            "name": "app", "state": "backoff", "pid": 7, "exit_code": 1, "signal": "SIGTERM", "restarts": 2,
            "reason": "why", "started_at": None,
        }
    ]  # fmt: skip
    vm["cloud_init"] = {"status": "error", "by": "kestrel", "errors": ["bad"], "unknown_modules": ["snap"]}
    vm["agent"] = {"connected": True, "version": "1", "protocol": 1, "missing": ["logs"]}
    vm["hypervisor"] = {"kind": "qemu", "accelerator": "tcg", "pid": 12, "kernel": "6.1"}
    facts = dict(describe(vm))
    assert facts["processes"] == "app, backoff, pid 7, exit code 1, SIGTERM, 2 restarts (why)"
    assert facts["cloud-init"] == "error (by kestrel)\nbad\nunknown module: snap"
    assert facts["agent"] == "kestrel 1, lacks logs"
    assert (facts["hypervisor"], facts["pid"]) == ("qemu tcg", 12)
