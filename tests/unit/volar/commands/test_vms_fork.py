# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_only_a_vm_that_runs_is_forked_and_not_into_itself(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("made")
    daemon.client.create_vm({"name": "db", "plugin": "made", "start": False})
    stopped = volar("vms", "fork", "db", "db-2")
    assert (stopped.exit_code, "cannot fork VM db: it is created" in stopped.err) == (5, True)
    assert volar("vms", "fork", "db", "db").exit_code == 2
    assert volar("vms", "fork", "nobody", "x").exit_code == 4
