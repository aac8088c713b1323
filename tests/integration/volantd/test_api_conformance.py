# SPDX-License-Identifier: Apache-2.0
"""Whatever the API's description allows, and what it does not, is answered as the description says.

The application runs in this process on loopback, with guests that are processes. Each operation gets requests made by
schemathesis, half of them for things that exist; then the description's links are followed from what was made.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.stateful.state_machine import StepInput, StepOutput
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.in_process_daemon import TOKEN, InProcessDaemon, start_in_process
from volant.errors import Conflict

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = schemathesis.openapi.from_path(ROOT / "docs" / "reference" / "openapi.json")
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
WORKFLOWS = int(os.environ.get("CONFORMANCE_WORKFLOWS", "8"))
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "10"))
LET_IN = {"Authorization": f"Bearer {TOKEN}"}
# What the guest is to blame for is told with a status from 500 on, too.
OF_THE_GUEST = ("guest_failed", "unreachable")


def no_failure_of_ours(context: CheckContext, response: Response, case: Case) -> bool | None:
    if response.status_code >= 500 and "{name}" in case.path and response.json()["code"] in OF_THE_GUEST:
        return None
    return not_a_server_error(context, response, case)


CHECKS = [
    no_failure_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Answered without end by design, or by what is not ours: the workload behind the proxy.
ENDLESS_PARAMETERS = ("follow", "wait")


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as daemon:
        daemon.install("web")
        yield daemon


@pytest.fixture(scope="module")
def address(daemon: InProcessDaemon) -> str:
    return f"http://127.0.0.1:{daemon.listen()}"


def prepare(case: Case, is_real: bool) -> None:
    """Ask for what exists, half of the time; never for an answer without end."""
    parameters: dict[str, Any] = case.path_parameters or {}
    if is_real and "name" in parameters:
        parameters["name"] = "web" if "plugins" in case.path else "vm"
    if is_real and isinstance(case.body, dict) and "plugin" in case.body:
        case.body["plugin"] = "web"
    for name in ENDLESS_PARAMETERS:
        if case.query and name in case.query:
            del case.query[name]
    if case.method == "DELETE" and "plugins" in case.path:
        parameters["name"] = f"{parameters.get('name', '')}-not-web"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_is_described(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, daemon: InProcessDaemon, address: str
) -> None:
    with contextlib.suppress(Conflict):
        daemon.client.call("POST", "/vms", body={"name": "vm", "plugin": "web", "start": False})

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), is_real=st.booleans())
    def ask(case: Case, is_real: bool) -> None:
        prepare(case, is_real)
        response = case.call(base_url=address, timeout=60, headers=LET_IN)
        assert response.status_code not in (401, 403)
        case.validate_response(response, checks=CHECKS)

    # Where nothing wrong can be sent there is nothing to try.
    with contextlib.suppress(*([Unsatisfiable] if mode is GenerationMode.NEGATIVE else [])):
        ask()


# What makes something, and what is asked of what was made; what lists is asked for by the other test.
LINKED = SCHEMA.include(lambda context: is_linked(context.operation.definition.raw))
FIRST_BODIES: dict[str, dict[str, Any]] = {
    "vms_create": {"plugin": "web", "network": "vsock", "start": False},
    "tokens_create": {"scope": "read"},
    "secrets_put": {"value_base64": "YQ=="},
}


def is_linked(operation: dict[str, Any]) -> bool:
    takes_name = any(parameter["name"] == "name" for parameter in operation.get("parameters", ()))
    return operation["operationId"] in FIRST_BODIES or (takes_name and "plugins" not in operation["tags"])


class Made:
    """Names of what was made, by the path that it is asked for at."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.followed: Counter[str] = Counter()

    def prepare(self, case: Case, is_linked: bool) -> None:
        """What makes something gets a new name and a body that is taken, what follows no link a thing that is there."""
        identity, kind = find_identity(case), find_kind(case)
        names = self.names.setdefault(kind, [])
        body = FIRST_BODIES.get(identity)
        if identity == "secrets_put" and not is_linked:
            case.body, case.path_parameters = body, {"name": f"made-{len(names)}"}
        elif identity != "secrets_put" and body is not None:
            case.body = {**body, "name": f"made-{len(names)}"}
        elif names and not is_linked:
            case.path_parameters = {**(case.path_parameters or {}), "name": names[-1]}
        for name in ENDLESS_PARAMETERS:
            (case.query or {}).pop(name, None)

    def note(self, case: Case, response: Response, is_linked: bool) -> None:
        identity, names = find_identity(case), self.names[find_kind(case)]
        if identity in FIRST_BODIES and response.status_code < 300:
            names.append(response.json()["name"])
        elif is_linked and (case.path_parameters or {}).get("name") in names:
            self.followed[identity] += 1


def find_identity(case: Case) -> str:
    return str(case.operation.definition.raw["operationId"])


def find_kind(case: Case) -> str:
    return str(case.path.split("/")[3])


def test_what_was_made_is_answered_for_from_link_to_link(daemon: InProcessDaemon, address: str) -> None:
    made = Made()

    class Workflow(LINKED.as_state_machine()):
        def step(self, input: StepInput) -> StepOutput:
            self.is_linked = input.transition is not None
            return super().step(input)

        def before_call(self, case: Case) -> None:
            made.prepare(case, self.is_linked)

        def after_call(self, response: Response, case: Case) -> None:
            super().after_call(response, case)
            made.note(case, response, self.is_linked)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"base_url": address, "timeout": 60, "headers": LET_IN}

        def validate_response(self, response: Response, case: Case, **options: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Workflow.run(
        settings=settings(
            max_examples=WORKFLOWS,
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
    # Else the links lead nowhere, and nothing was tried.
    assert len(made.followed) >= 5, made.followed
    assert set(made.names) >= {"vms", "tokens"}
