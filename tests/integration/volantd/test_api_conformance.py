# SPDX-License-Identifier: Apache-2.0
"""Whatever the API's description allows, and what it does not, is answered as the description says.

The application runs in this process on loopback, with guests that are processes. Each operation gets requests made by
schemathesis, half of them for things that exist.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.in_process_daemon import InProcessDaemon, start_in_process
from volant.errors import Conflict

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = schemathesis.openapi.from_path(ROOT / "docs" / "reference" / "openapi.json")
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "15"))
CHECKS = [
    not_a_server_error,
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
    operation: APIOperation[Any, Any, Any], mode: GenerationMode, daemon: InProcessDaemon, address: str
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
        response = case.call(base_url=address, timeout=60)
        case.validate_response(response, checks=CHECKS)

    # Where nothing wrong can be sent there is nothing to try.
    with contextlib.suppress(*([Unsatisfiable] if mode is GenerationMode.NEGATIVE else [])):
        ask()
