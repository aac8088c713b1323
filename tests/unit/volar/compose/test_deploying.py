# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from volant.errors import GuestFailed
from volant.volar.compose.deploying import is_made, is_ready, make_policy, make_template
from volant.volar.compose.model import Service
from volant.volar.compose.planning import Act
from volant.volar.compose.requests import ServiceRequest


def make_replicated(name: str, **body: Any) -> ServiceRequest:
    labels = {"volant.compose.project": "p", "volant.compose.service": name}
    service = Service.model_validate({"image": "i", "scale": 2, **body})
    ports = [{"guest_port": 80}]
    return ServiceRequest(name, service, 2, cast("Any", {"labels": labels, "publish": ports}), {}, (), True)


@pytest.mark.parametrize(
    ("deploy", "policy"),
    [
        ({}, {}),
        ({"update_config": {}}, {"max_surge": 0, "max_unavailable": 1}),
        ({"update_config": {"parallelism": 0}}, {"max_surge": 0, "max_unavailable": 2}),
        (
            {"update_config": {"order": "start-first", "parallelism": 3}},
            {"max_surge": 3, "max_unavailable": 0},
        ),
    ],
)
def test_an_update_goes_as_the_file_says(deploy: dict[str, Any], policy: dict[str, Any]) -> None:
    found = make_policy(make_replicated("api", deploy=deploy))
    assert found == {"healthy_seconds": 120.0, **policy}


def test_a_new_vm_has_as_long_as_its_check_takes() -> None:
    check = {"test": "ask", "interval": "20s", "retries": 6, "start_period": "2m"}
    assert make_policy(make_replicated("api", healthcheck=check))["healthy_seconds"] == 240.0


def test_a_template_differs_where_it_is_forced_to() -> None:
    request = make_replicated("api")
    assert make_template(request, "i:1.0.0") == make_template(request, "i:1.0.0")
    assert make_template(request, "i:1.0.0") != make_template(request, "i:1.0.1")
    assert make_template(request, "i:1.0.0", is_forced=True) != make_template(
        request, "i:1.0.0", is_forced=True
    )


def make_deployment(status: str, updated: int, vms: int) -> Any:
    return {"name": "p-api", "status": status, "reason": "r", "replicas": 2, "updated": updated, "ready": updated,
            "vms": [{"name": str(number), "ready": False} for number in range(vms)]}  # fmt: skip


@pytest.mark.parametrize(
    ("act", "status", "updated", "vms", "done"),
    [
        (Act.DEPLOY, "progressing", 1, 1, False),
        (Act.DEPLOY, "progressing", 2, 2, True),
        (Act.SCALE, "progressing", 2, 3, False),
        (Act.SCALE, "progressing", 2, 2, True),
        (Act.UPDATE, "progressing", 2, 2, False),
        (Act.UPDATE, "ready", 2, 2, True),
        (Act.UPDATE, "degraded", 1, 2, True),
        (Act.DEPLOY, "degraded", 1, 1, True),
    ],
)
def test_how_long_up_waits(act: Act, status: str, updated: int, vms: int, done: bool) -> None:
    assert is_made(make_deployment(status, updated, vms), act) is done


def test_what_others_wait_for() -> None:
    assert is_ready(make_deployment("progressing", 2, 2), "service_started", "web")
    assert not is_ready(make_deployment("progressing", 2, 2), "service_healthy", "web")
    assert is_ready(make_deployment("ready", 2, 2), "service_healthy", "web")
    with pytest.raises(GuestFailed, match="web was not started: the update of p-api was undone"):
        is_ready(make_deployment("rolled-back", 0, 2), "service_healthy", "web")
