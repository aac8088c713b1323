# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_from_creation_to_deletion(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("store")
    assert (
        volar("networks", "create", "back", "--internal", "--label", "tier=data").out
        == "back has been created\n"
    )
    assert volar("networks", "create", "back").exit_code == 5
    assert volar("networks", "create", "bridged").exit_code == 3
    options = ["--network", "back", "--net", "default", "--alias", "sql"]
    done = volar("vms", "create", "db", "-p", "store", *options, "-o", "json")
    vm = json.loads(done.out)[0]
    assert (vm["network"], vm["networks"], vm["aliases"]) == ("user", ["back", "default"], ["sql"])
    assert "back, default" in volar("vms", "get", "db").out
    shown = json.loads(volar("networks", "show", "network/back", "-o", "json").out)
    assert (shown["vms"], shown["internal"], shown["labels"]) == (["db"], True, {"tier": "data"})
    assert "back" in volar("networks", "ls").out
    refused = volar("networks", "rm", "back")
    assert refused.exit_code == 5
    assert "volar vms delete db" in refused.err
    assert volar("vms", "delete", "db").exit_code == 0
    assert volar("networks", "delete", "back").out == "deleted back\n"
    assert volar("networks", "show", "back").exit_code == 4


def test_a_vm_is_put_in_no_network_that_is_not_there(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("store")
    refused = volar("vms", "create", "db", "-p", "store", "--network", "back")
    assert refused.exit_code == 4
    assert "volar networks create back" in refused.err
    for modes, exit_code in ((["user", "vsock"], 2), (["vsock", "default"], 3)):
        options = [word for mode in modes for word in ("--network", mode)]
        assert volar("vms", "create", "db", "-p", "store", *options).exit_code == exit_code
