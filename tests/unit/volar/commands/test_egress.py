# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_what_a_vm_reaches_is_said_at_its_creation_and_later(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("store")
    refused = volar("vms", "create", "db", "-p", "store", "--egress", "nowhere")
    assert refused.exit_code == 2 and "'nowhere' is no name" in refused.err and "10.0.0.0/8" in refused.err
    done = volar("vms", "create", "db", "-p", "store", "--egress", "none", "-o", "json")
    egress = json.loads(done.out)[0]["egress"]
    assert egress == {"policy": "none", "allowed": None, "denied": None, "recently_denied": []}
    assert "none" in volar("vms", "get", "db").out
    assert volar("vms", "update", "db", "--egress", "a.example,").exit_code == 2
    assert volar("vms", "update", "db", "--egress", "open").exit_code == 0
    vm = json.loads(volar("vms", "get", "db", "-o", "json").out)
    assert (vm["egress"]["policy"], vm["pending"]) == ("open", ["egress"])
