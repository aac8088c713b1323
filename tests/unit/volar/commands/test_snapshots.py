# SPDX-License-Identifier: Apache-2.0
"""The commands and the API below them, with a VM that does not run; memory is shown with real VMs."""

from __future__ import annotations

import json

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


@pytest.fixture(scope="module", autouse=True)
def vm(daemon: InProcessDaemon) -> None:
    daemon.install("made")
    daemon.client.create_vm({"name": "db", "plugin": "made", "start": False, "labels": {"tier": "data"}})


def test_from_taking_one_to_deleting_it(volar: Volar, daemon: InProcessDaemon) -> None:
    assert volar("snapshots", "create", "db", "before").out == "before has been taken of db (disk)\n"
    taken = volar("snapshots", "create", "db", "before")
    assert (taken.exit_code, "the name is taken" in taken.err) == (5, True)
    (row,) = json.loads(volar("snapshots", "list", "-o", "json").out)
    assert (row["name"], row["vm"], row["has_memory"]) == ("before", "db", False)
    assert "before" in volar("snapshots", "ls").out
    assert "made:1.0.0" in volar("snapshots", "show", "snapshot/before").out
    done = volar("vms", "create", "again", "--from-snapshot", "before", "--no-start", "-l", "copy=yes")
    assert done.exit_code == 0, done.err
    assert daemon.client.get_vm("again")["labels"] == {"tier": "data", "copy": "yes"}
    assert volar("snapshots", "rm", "before").out == "deleted before\n"
    gone = volar("snapshots", "show", "before")
    assert (gone.exit_code, "cannot find snapshot before" in gone.err) == (4, True)


def test_a_name_of_no_use_is_refused(volar: Volar) -> None:
    assert volar("snapshots", "create", "db", "../up").exit_code == 3
    assert volar("snapshots", "create", "nobody").exit_code == 4


def test_a_vm_is_made_of_a_plugin_or_of_a_snapshot(volar: Volar) -> None:
    assert volar("vms", "create", "x").exit_code == 2
    assert volar("vms", "create", "x", "--plugin", "made", "--from-snapshot", "before").exit_code == 2


def test_a_vm_of_a_snapshot_has_what_the_snapshots_vm_had(volar: Volar) -> None:
    volar("snapshots", "create", "db", "sized")
    done = volar("vms", "create", "x", "--from-snapshot", "sized", "--memory", "1g")
    assert done.exit_code == 2
    assert "--memory" in done.err
