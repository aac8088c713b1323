# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_a_running_vm_is_changed_and_what_waits_is_named(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("changes")
    assert volar("create", "changing", "-p", "changes", "-e", "A=1", "-l", "tier=web").exit_code == 0
    done = volar(
        "vms", "update", "changing", "--memory", "512m", "--env-rm", "A", "-e", "B=2", "--label-rm", "tier",
        "--restart", "always",
    )  # fmt: skip
    assert (done.exit_code, done.out) == (0, "updated changing\n")
    assert done.err == "memory_mb, env: from the next start on, e.g. volar vms restart changing\n"
    vm = daemon.client.get_vm("changing")
    assert (vm["resources"]["memory_mb"], vm["labels"], vm["restart"]) == (512, {}, "always")
    assert vm["pending"] == ["memory_mb", "env"]
    assert volar("restart", "changing").exit_code == 0
    assert daemon.client.get_vm("changing")["pending"] == []
    assert volar("vms", "update", "changing", "--restart", "sometimes").exit_code == 3
    assert volar("vms", "update", "changing", "-e", "novalue").exit_code == 2
    assert volar("vms", "update", "nobody", "--cpus", "2").exit_code == 4
    assert volar("rm", "-f", "changing").exit_code == 0
