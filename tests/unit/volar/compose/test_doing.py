# SPDX-License-Identifier: Apache-2.0
"""Carrying a plan out, against a daemon of memory."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from volant.errors import Conflict, GuestFailed, NotFound, VolantError
from volant.volar.client import Client
from volant.volar.compose.doing import Doer, is_met, stop_in_order
from volant.volar.compose.model import Service
from volant.volar.compose.planning import Act, Step
from volant.volar.compose.project_vms import Unit
from volant.volar.compose.requests import ServiceRequest


class MemoryDaemon:
    """`becomes`: what a VM of that name is once it was made; the order of calls is kept."""

    def __init__(self, **becomes: dict[str, Any]) -> None:
        self.becomes, self.vms, self.calls = becomes, dict[str, dict[str, Any]](), list[str]()
        self.lock = threading.Lock()

    def create_vm(self, request: dict[str, Any]) -> None:
        with self.lock:
            self.calls.append(f"create {request['name']}")
            if request["name"] in self.vms:
                raise Conflict("taken")
            self.vms[request["name"]] = self.make(request["name"])

    def make(self, name: str) -> dict[str, Any]:
        usual: dict[str, Any] = {
            "name": name, "status": "running", "health": "healthy", "exit_code": None, "status_reason": "",
            "health_reason": "", "checks": [], "processes": [], "agent": {"connected": True},
        }  # fmt: skip
        return {**usual, **self.becomes.get(name.split("-")[1], {})}

    def get_vm(self, name: str) -> dict[str, Any]:
        with self.lock:
            if name not in self.vms:
                raise NotFound(name)
            return self.vms[name]

    def start_vm(self, name: str) -> None:
        self.calls.append(f"start {name}")
        self.vms[name] = self.make(name)

    def stop_vm(self, name: str, *, timeout_seconds: float = 0, force: bool = False) -> None:
        self.calls.append(f"stop {name}")

    def delete_vm(self, name: str, *, force: bool = False) -> None:
        self.calls.append(f"delete {name}")
        self.vms.pop(name, None)


def make_request(name: str, **depends_on: str) -> ServiceRequest:
    conditions = {other: {"condition": f"service_{word}"} for other, word in depends_on.items()}
    service = Service.model_validate({"image": "i", "depends_on": conditions})
    return ServiceRequest(name, service, 1, cast("Any", {"labels": {}, "restart": "always"}), {}, ())


def carry_out(
    daemon: MemoryDaemon, requests: list[ServiceRequest], *steps: Step, seconds: float = 30
) -> None:
    by_name = {request.name: request for request in requests}
    plan = steps or tuple(Step(Act.CREATE, f"p-{name}-1", name) for name in by_name)
    plugins = dict.fromkeys(by_name, "i:1.0.0")
    Doer(cast("Client", daemon), by_name, plugins, lambda text: None, seconds).carry_out(plan)


def test_services_are_made_after_what_they_wait_for() -> None:
    daemon = MemoryDaemon(job={"status": "stopped", "exit_code": 0})
    carry_out(
        daemon,
        [make_request("web", app="healthy"), make_request("app", db="started", job="completed_successfully"),
         make_request("db"), make_request("job", db="healthy")],
    )  # fmt: skip
    assert daemon.calls == ["create p-db-1", "create p-job-1", "create p-app-1", "create p-web-1"]


def test_those_that_wait_for_nothing_are_made_side_by_side() -> None:
    """Each of them waits in the daemon until the other is there, too."""
    both = threading.Barrier(2, timeout=60)

    class Waiting(MemoryDaemon):
        def create_vm(self, request: dict[str, Any]) -> None:
            both.wait()
            super().create_vm(request)

    carry_out(Waiting(), [make_request("a"), make_request("b")])


@pytest.mark.parametrize(
    ("condition", "other", "words"),
    [
        ("healthy", {"health": "unhealthy", "health_reason": "no answer"}, "no answer"),
        ("healthy", {"status": "stopped"}, "has ended"),
        ("started", {"status": "failed", "status_reason": "no disk"}, "no disk"),
        ("completed_successfully", {"status": "stopped", "exit_code": 3}, "exit code 3"),
        ("completed_successfully", {"status": "failed", "status_reason": "panic"}, "panic"),
    ],
)
def test_who_waits_in_vain_is_not_made(condition: str, other: dict[str, Any], words: str) -> None:
    daemon = MemoryDaemon(db=other)
    with pytest.raises(GuestFailed, match=words):
        carry_out(daemon, [make_request("web", db=condition), make_request("db"), make_request("apart")])
    assert sorted(daemon.calls) == ["create p-apart-1", "create p-db-1"]


def test_waiting_has_an_end() -> None:
    daemon = MemoryDaemon(db={"health": "starting", "checks": [{}]})
    with pytest.raises(GuestFailed, match="p-db-1 is not healthy"):
        carry_out(daemon, [make_request("web", db="healthy"), make_request("db")], seconds=0.3)


def test_the_first_cause_is_told_and_not_what_follows_from_it() -> None:
    class Full(MemoryDaemon):
        def create_vm(self, request: dict[str, Any]) -> None:
            raise VolantError("the disk is full")

    with pytest.raises(VolantError, match="the disk is full"):
        carry_out(Full(), [make_request("web", db="started"), make_request("db")])


def test_each_act_is_done() -> None:
    daemon = MemoryDaemon()
    daemon.vms = {name: daemon.make(name) for name in ("p-a-1", "p-a-2", "p-a-3", "p-a-4")}
    carry_out(
        daemon,
        [make_request("a")],
        Step(Act.KEEP, "p-a-1", "a"), Step(Act.START, "p-a-2", "a"), Step(Act.REPLACE, "p-a-3", "a"),
        Step(Act.REMOVE, "p-a-4", "a"),
    )  # fmt: skip
    assert daemon.calls == [
        "stop p-a-4", "delete p-a-4", "start p-a-2", "stop p-a-3", "delete p-a-3", "create p-a-3",
    ]  # fmt: skip


def test_a_vm_that_is_only_made_has_not_started() -> None:
    daemon = MemoryDaemon()
    assert not is_met(cast("Any", {**daemon.make("p-a-1"), "status": "created"}), "service_started", "web")
    assert is_met(cast("Any", {**daemon.make("p-a-1"), "status": "starting"}), "service_started", "web")


class Deploying(MemoryDaemon):
    """Whose deployments become so: `statuses` one look after the other, the last for ever."""

    def __init__(self, *statuses: str) -> None:
        super().__init__()
        self.statuses, self.asked = list(statuses), list[tuple[str, Any]]()

    def create_deployment(self, request: dict[str, Any]) -> None:
        self.calls.append(f"deploy {request['name']}")
        self.asked.append((request["name"], request))

    def update_deployment(self, name: str, request: dict[str, Any]) -> None:
        self.calls.append(f"change {name}")
        self.asked.append((name, request))

    def delete_deployment(self, name: str) -> None:
        self.calls.append(f"undeploy {name}")

    def get_deployment(self, name: str) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        ready = 2 if status == "ready" else 0
        return {"name": name, "status": status, "replicas": 2, "ready": ready, "updated": 2, "vms": [], "reason": "r",
                "revision": 2}  # fmt: skip


def make_replicated(name: str, **body: Any) -> ServiceRequest:
    labels = {"volant.compose.project": "p", "volant.compose.service": name}
    service = Service.model_validate({"image": "i", "scale": 2, **body})
    ports = [{"guest_port": 80}]
    return ServiceRequest(name, service, 2, cast("Any", {"labels": labels, "publish": ports}), {}, (), True)


def test_a_service_with_replicas_is_a_deployment_that_others_wait_for() -> None:
    daemon = Deploying("progressing", "progressing", "ready")
    plan = Step(Act.DEPLOY, "p-api", "api"), Step(Act.CREATE, "p-web-1", "web")
    carry_out(daemon, [make_request("web", api="healthy"), make_replicated("api")], *plan)
    assert daemon.calls == ["deploy p-api", "create p-web-1"]
    ((_, asked),) = daemon.asked
    assert asked["replicas"] == 2
    assert asked["publish"] == [{"guest_port": 80}]
    assert "publish" not in asked["vm"], "the balancer has the port"
    assert asked["labels"]["volant.compose.digest"] == asked["vm"]["labels"]["volant.compose.digest"]


def test_an_update_that_was_undone_is_told() -> None:
    daemon = Deploying("progressing", "rolled-back")
    with pytest.raises(GuestFailed, match="the update of p-api was undone: r"):
        carry_out(daemon, [make_replicated("api")], Step(Act.UPDATE, "p-api", "api"))
    with pytest.raises(GuestFailed, match="web was not started: p-api has 0 of 2 VMs ready"):
        carry_out(
            Deploying("degraded"), [make_request("web", api="healthy"), make_replicated("api")],
            Step(Act.KEEP, "p-api", "api"), Step(Act.CREATE, "p-web-1", "web"),
        )  # fmt: skip


def test_what_is_only_scaled_is_asked_for_nothing_else() -> None:
    daemon = Deploying("ready")
    carry_out(
        daemon, [make_replicated("api")], Step(Act.UNDEPLOY, "p-old", "old"), Step(Act.SCALE, "p-api", "api"),
        Step(Act.START, "p-api-2", "api"),
    )  # fmt: skip
    assert daemon.calls == ["undeploy p-old", "change p-api", "start p-api-2"]
    assert daemon.asked == [("p-api", {"replicas": 2})]


def make_units(*names: str) -> list[Unit]:
    return [Unit(name, is_deployment=False) for name in names]


def test_what_others_need_ends_last() -> None:
    ended: list[str] = []
    vms = {"db": make_units("p-db-1"), "web": make_units("p-web-1", "p-web-2"), "app": make_units("p-app-1")}
    needs = {"web": ["app"], "app": ["db", "gone"]}
    stop_in_order(vms, needs, {"db": 5.0}, lambda vm, seconds: ended.append(f"{vm.name} {seconds}"))
    assert ended == ["p-web-1 10.0", "p-web-2 10.0", "p-app-1 10.0", "p-db-1 5.0"]


def test_one_that_cannot_be_stopped_keeps_no_other_waiting() -> None:
    ended: list[str] = []

    def end(vm: Unit, seconds: float) -> None:
        if vm.name == "p-web-1":
            raise VolantError("stuck")
        ended.append(vm.name)

    with pytest.raises(VolantError, match="stuck"):
        stop_in_order({"db": make_units("p-db-1"), "web": make_units("p-web-1")}, {"web": ["db"]}, {}, end)
    assert ended == ["p-db-1"]
