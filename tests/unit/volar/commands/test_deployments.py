# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar


def test_from_creation_to_deletion(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("web")
    daemon.install("web", "1.1.0")
    done = volar("deployments", "create", "shop", "-p", "web:1.0.0", "-r", "2", "--publish", "80")
    assert done.exit_code == 0, done.err
    assert done.out.startswith("shop is ready: 2 of 2 VMs are ready at 127.0.0.1:")
    assert "shop: 0 of 2 ready" in done.err
    again = volar("deployments", "create", "shop", "-p", "web")
    assert again.exit_code == 5
    assert "volar deployments update shop" in again.err
    assert [vm["name"] for vm in daemon.client.list_vms(label=["volant.deployment=shop"])] == [
        "shop-1",
        "shop-2",
    ]
    listed = volar("deployments", "ls").out.splitlines()
    assert listed[1].split()[:6] == ["shop", "ready", "2/2", "2", "1", "web:1.0.0"]
    assert volar("deployments", "list", "-o", "name").out == "deployment/shop\n"
    used = volar("plugins", "remove", "web:1.0.0")
    assert used.exit_code == 5
    assert "deployment shop" in used.err

    assert volar("deployments", "update", "shop", "-p", "web", "-e", "A=1").exit_code == 0
    shown = volar("deployments", "get", "deployment/shop").out
    assert "plugin:    web:1.1.0" in shown
    assert [line.split()[0] for line in shown.splitlines() if " web:" in line][-2:] == ["1", "2"]
    assert json.loads(volar("deployments", "get", "shop", "-o", "json").out)["revision"] == 2
    assert "rollback to 1" in (
        volar("deployments", "rollback", "shop").out + volar("deployments", "get", "shop").out
    )
    assert volar("deployments", "rollback", "shop", "--to", "1").exit_code == 5
    assert volar("deployments", "scale", "shop", "0").out.startswith("shop is ready: 0 of 0 VMs are ready")
    assert volar("deployments", "delete", "shop").out == "deleted shop\n"
    assert volar("deployments", "get", "shop").exit_code == 4
    assert daemon.client.list_vms() == []


def test_an_update_that_does_not_become_healthy_is_undone_and_told(
    volar: Volar, daemon: InProcessDaemon
) -> None:
    daemon.install("site")
    assert volar("deployments", "create", "site", "-p", "site").exit_code == 0
    failed = volar("deployments", "update", "site", "-e", "FAKE=broken", "--healthy-within", "1s")
    assert failed.exit_code == 10
    assert "the update of site was undone: no new VM became healthy within 1 s" in failed.err
    deployment = daemon.client.get_deployment("site")
    assert (deployment["status"], deployment["ready"], deployment["revision"]) == ("rolled-back", 1, 3)
    assert [revision["cause"] for revision in daemon.client.list_revisions("site")] == [
        "create",
        "update",
        "rollback to 1",
    ]
    assert volar("deployments", "rm", "site").exit_code == 0


def test_a_label_of_a_deployment_is_given_to_no_other_vm(volar: Volar, daemon: InProcessDaemon) -> None:
    daemon.install("lone")
    refused = volar("vms", "create", "thief", "-p", "lone", "-l", "volant.deployment=shop")
    assert refused.exit_code == 3
    assert "volant.deployment" in refused.err
    assert volar("vms", "create", "lone", "-p", "lone").exit_code == 0
    assert volar("vms", "update", "lone", "-l", "volant.deployment=shop").exit_code == 3
    assert volar("vms", "delete", "lone").exit_code == 0
