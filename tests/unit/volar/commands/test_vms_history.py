# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_it_shows_each_change_and_what_waits(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("kept")
    assert volar("create", "changed", "-p", "kept").exit_code == 0
    assert volar("vms", "history", "changed", "-o", "json").out == "[]\n"
    assert volar("vms", "update", "changed", "--cpus", "2", "-l", "tier=web").exit_code == 0
    (change,) = json.loads(volar("vms", "history", "changed", "-o", "json").out)
    assert (change["who"], change["action"], change["pending"]) == (f"uid {os.getuid()}", "update", ["vcpu"])
    lines = volar("vms", "history", "changed").out.splitlines()
    assert [line.split()[-5:] for line in lines[1:2]] == [["2", "from", "the", "next", "start"]]
    assert lines[2].split()[-3:] == ["-", "web", "now"]
    assert volar("vms", "history", "nobody").exit_code == 4
    assert volar("rm", "-f", "changed").exit_code == 0
