# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_a_vm_is_restored_by_its_snapshots_name(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("restored")
    for name in ("one", "two"):
        assert volar("create", name, "-p", "restored").exit_code == 0
    assert volar("snapshots", "create", "one", "then").exit_code == 0
    assert volar("restore", "one", "then").out == "one is what it was at then, and running\n"
    refused = volar("vms", "restore", "two", "then")
    assert (refused.exit_code, "--from-snapshot then" in refused.err) == (3, True)
    assert volar("vms", "restore", "one", "never").exit_code == 4
    assert volar("stop", "one").exit_code == 0
    assert volar("restore", "one", "then").out == "one is what it was at then, and running\n"
