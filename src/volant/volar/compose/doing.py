# SPDX-License-Identifier: Apache-2.0
"""Carries a plan out: services start side by side, each as soon as those are ready that it depends on.

Every act can be asked for again: who is killed in the middle leaves VMs that the next `up` finds by their labels.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volant.errors import GuestFailed, NotFound, VolantError, WrongState
from volant.volar.boot_watch import is_settled
from volant.volar.client import Client
from volant.volar.compose.deploying import ask_for, describe_progress, is_made, is_ready
from volant.volar.compose.planning import Act, Step, find_dependencies
from volant.volar.compose.project_vms import Unit
from volant.volar.compose.requests import DIGEST_LABEL, ServiceRequest
from volant.volar.fetching_watch import telling_fetches

if TYPE_CHECKING:
    from volant.contract.api_types import Vm, VmCreate

POLL_SECONDS = 0.1
STOP_MARGIN_SECONDS = 10.0
Tell = Callable[[str], None]


@dataclass
class _Service:
    """`started`: its VMs have been asked for; `problem`: why they could not; `waited_in_vain`: for another service."""

    steps: list[Step]
    started: threading.Event = field(default_factory=threading.Event)
    problem: VolantError | None = None
    waited_in_vain: bool = False


class Doer:
    """One `up`. `plugins`: NAME:VERSION by service."""

    def __init__(
        self, client: Client, requests: Mapping[str, ServiceRequest], plugins: Mapping[str, str], tell: Tell,
        timeout_seconds: float, *, force_recreate: bool = False,
    ) -> None:  # fmt: skip
        self.client, self.requests, self.plugins, self.tell = client, requests, plugins, tell
        self.timeout_seconds = timeout_seconds
        self.force_recreate = force_recreate
        self._ended = threading.Event()

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Returns when every VM was asked for; raises the first problem when all others are through."""
        for step in steps:
            if step.act is Act.REMOVE:
                self._remove(step)
            elif step.act is Act.UNDEPLOY:
                self.tell(f"{step.name}: removed")
                with suppress(NotFound):
                    self.client.delete_deployment(step.name)
        services = {name: _Service([]) for name in self.requests}
        for step in steps:
            if step.act not in (Act.REMOVE, Act.UNDEPLOY):
                services[step.service].steps.append(step)
        threads = [
            threading.Thread(target=self._start, args=(name, services), daemon=True) for name in services
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # so that Ctrl-C is heard
        finally:
            self._ended.set()
        # What kept a service from starting says more than that another one waited for it.
        problems = sorted(
            (service for service in services.values() if service.problem is not None),
            key=lambda service: service.waited_in_vain,
        )
        if problems and problems[0].problem is not None:
            raise problems[0].problem

    def _start(self, name: str, services: Mapping[str, _Service]) -> None:
        own = services[name]
        try:
            own.waited_in_vain = True
            for other, dependency in find_dependencies(self.requests[name].service).items():
                if other in services:
                    self._await(name, other, dependency.condition, services[other])
            own.waited_in_vain = False
            for step in own.steps:
                self._act(step)
        except VolantError as error:
            own.problem = error
        finally:
            own.started.set()

    def _act(self, step: Step) -> None:
        request = self.requests[step.service]
        match step.act:
            case Act.REPLACE:
                self.tell(f"{step.name}: replaced, because something has changed")
                stop_vm(self.client, step.name, request.grace_seconds)
                self.client.delete_vm(step.name, force=True)
                self._create(step, request)
            case Act.CREATE:
                self._create(step, request)
            case Act.START:
                self.tell(f"{step.name}: started again")
                # What a deployment has replaced meanwhile is gone.
                with suppress(WrongState, *((NotFound,) if request.is_deployed else ())):
                    self.client.start_vm(step.name)
            case Act.DEPLOY | Act.SCALE | Act.UPDATE:
                self._deploy(step, request)
            case _:
                self.tell(f"{step.name}: runs as it should")

    def _create(self, step: Step, request: ServiceRequest) -> None:
        self.tell(f"{step.name}: created")
        with telling_fetches(self.client, step.name, self.tell):
            self.client.create_vm(make_body(step.name, request, self.plugins[step.service]))

    def _deploy(self, step: Step, request: ServiceRequest) -> None:
        count = f"{request.replicas} VM{'s' * (request.replicas != 1)}"
        words = {Act.DEPLOY: f"{count} created", Act.SCALE: f"{count} from now on"}
        self.tell(f"{step.name}: {words.get(step.act, 'updated, because something has changed')}")
        plugin = self.plugins[step.service]
        ask_for(self.client, step.act, step.name, request, plugin, is_forced=self.force_recreate)
        deadline = time.monotonic() + self.timeout_seconds
        while not is_made(deployment := self.client.get_deployment(step.name), step.act):
            if time.monotonic() > deadline or self._ended.is_set():
                raise GuestFailed(
                    f"{step.name} is not done after {self.timeout_seconds:g} s: {describe_progress(deployment)}"
                )
            time.sleep(POLL_SECONDS)

    def _remove(self, step: Step) -> None:
        self.tell(f"{step.name}: removed")
        stop_vm(self.client, step.name, 10.0)
        with suppress(NotFound):
            self.client.delete_vm(step.name, force=True)

    def _await(self, name: str, other: str, condition: str, service: _Service) -> None:
        """Raises GuestFailed where the other will not be so."""
        while not service.started.wait(POLL_SECONDS):
            if self._ended.is_set():
                raise GuestFailed(f"{name} was not started: it was interrupted")
        if service.problem is not None:
            raise GuestFailed(f"{name} was not started: {other}, which it depends on, was not")
        deadline = time.monotonic() + self.timeout_seconds
        is_deployed = self.requests[other].is_deployed
        waiting = {step.name for step in service.steps if not (is_deployed and step.act is Act.START)}
        while waiting:
            for each in sorted(waiting):
                if is_deployed:
                    is_there = is_ready(self.client.get_deployment(each), condition, name)
                else:
                    is_there = is_met(self.client.get_vm(each), condition, name)
                if is_there:
                    waiting.discard(each)
            if waiting and (time.monotonic() > deadline or self._ended.is_set()):
                raise GuestFailed(
                    f"{name} was not started: {', '.join(sorted(waiting))} is not {condition.removeprefix('service_')}"
                    f" after {self.timeout_seconds:g} s"
                )
            if waiting:
                time.sleep(POLL_SECONDS)


def make_body(vm: str, request: ServiceRequest, plugin: str) -> VmCreate:
    digest = request.digest(plugin)
    body: VmCreate = {**request.body, "name": vm, "labels": {**request.body["labels"], DIGEST_LABEL: digest}}
    if "snapshot" not in body:
        body["plugin"] = plugin
    if request.body["restart"] == "no":
        body["run_once"] = True
    return body


def is_met(vm: Vm, condition: str, waits: str) -> bool:
    """Whether the VM is as `depends_on` of another service wants it. GuestFailed where it cannot become so."""
    name, status, code = vm["name"], vm["status"], vm["exit_code"]
    has_ended = status in ("stopped", "failed")
    if condition == "service_completed_successfully":
        if status == "failed" or code:
            reason = vm["status_reason"] or f"it ended with exit code {code}"
            raise GuestFailed(f"{waits} was not started: {name} did not complete: {reason}")
        return status == "stopped"
    if condition == "service_healthy":
        if has_ended or vm["health"] == "unhealthy":
            reason = vm["health_reason"] or vm["status_reason"] or "it has ended"
            raise GuestFailed(f"{waits} was not started: {name} is not healthy: {reason}")
        return vm["health"] == "healthy" or (vm["status"] == "running" and is_settled(vm))
    if status == "failed":
        raise GuestFailed(f"{waits} was not started: {name} failed: {vm['status_reason']}")
    return status not in ("created",)


def stop_vm(client: Client, name: str, grace_seconds: float) -> None:
    with suppress(WrongState, NotFound):
        client.stop_vm(name, timeout_seconds=grace_seconds + STOP_MARGIN_SECONDS)


def stop_in_order(
    units: Mapping[str, Sequence[Unit]], needs: Mapping[str, Sequence[str]], grace: Mapping[str, float],
    act: Callable[[Unit, float], None],
) -> None:  # fmt: skip
    """`units` and `needs` by service: each is acted on once those have ended that depend on it."""
    users: dict[str, list[str]] = defaultdict(list)
    for name, others in needs.items():
        for other in others:
            users[other].append(name)
    done = {name: threading.Event() for name in units}
    problems: list[VolantError] = []

    def end(name: str) -> None:
        try:
            for user in users[name]:
                if user in done:
                    done[user].wait()
            for unit in units[name]:
                act(unit, grace.get(name, 10.0))
        except VolantError as error:
            problems.append(error)
        finally:
            done[name].set()

    threads = [threading.Thread(target=end, args=(name,), daemon=True) for name in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
    if problems:
        raise problems[0]
