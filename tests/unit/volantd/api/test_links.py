# SPDX-License-Identifier: Apache-2.0
"""What is made links to all that can be asked of it, and every link leads to an operation."""

from __future__ import annotations

import json
from pathlib import Path

from volant.volantd.api.links import MAKERS, NAME

OPENAPI = json.loads((Path(__file__).parents[4] / "docs" / "reference" / "openapi.json").read_text())
OPERATIONS = {
    operation["operationId"]: operation
    for methods in OPENAPI["paths"].values()
    for operation in methods.values()
}


def test_a_new_vm_leads_to_all_that_can_be_asked_of_it() -> None:
    links = OPERATIONS["vms_create"]["responses"]["201"]["links"]
    assert {"vms_get", "vms_update", "vms_stop", "vms_delete", "guests_execute", "snapshots_fork"} <= set(
        links
    )
    assert links["vms_get"] == {"operationId": "vms_get", "parameters": {"name": NAME}}


def test_every_link_leads_to_an_operation_that_takes_a_name() -> None:
    for maker in MAKERS:
        replies = OPERATIONS[maker]["responses"]
        links = [
            link
            for status, reply in replies.items()
            if status.startswith("2")
            for link in reply["links"].values()
        ]
        assert links
        for link in links:
            taken = OPERATIONS[link["operationId"]]["parameters"]
            assert any(parameter["name"] == "name" and parameter["in"] == "path" for parameter in taken)


def test_whatever_makes_something_is_a_maker() -> None:
    """201 is what makers answer; a fork's reply is a list, whose members are VMs as any."""
    found = {name for name, operation in OPERATIONS.items() if "201" in operation["responses"]}
    assert found - set(MAKERS) == {"snapshots_fork"}
