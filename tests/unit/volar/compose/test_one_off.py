# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from volant.volar.compose.model import Service
from volant.volar.compose.one_off import OneOff, make_body, read_variables
from volant.volar.compose.requests import ServiceRequest

BODY = {
    "env": {"A": "1", "B": "1"}, "publish": [{"guest_port": 80}], "aliases": ["web"], "restart": "always",
    "labels": {"volant.compose.project": "p", "volant.compose.service": "web", "own": "x"},
    "entrypoint": ["/start"], "command": ["serve"], "health_check": {"test": ["CMD", "true"]},
}  # fmt: skip


def make(**wanted: Any) -> Any:
    request = ServiceRequest("web", Service.model_validate({}), 1, cast("Any", BODY), {}, ())
    return make_body("p-web-run-1", request, "part:1.0.0", OneOff(**wanted))


def test_it_is_as_the_service_without_what_leads_to_it() -> None:
    body = make(command=("migrate",), env=(("B", "2"),), user="app", workdir="/srv")
    assert (body["name"], body["plugin"], body["restart"], body["run_once"]) == (
        "p-web-run-1", "part:1.0.0", "no", True,
    )  # fmt: skip
    assert (body["publish"], "aliases" in body, body["health_check"]) == ([], False, {"test": ["NONE"]})
    assert body["labels"] == {"volant.compose.project": "p", "own": "x", "volant.compose.one-off": "web"}
    assert (body["env"], body["user"], body["working_dir"]) == ({"A": "1", "B": "2"}, "app", "/srv")
    assert make(has_ports=True)["publish"] == [{"guest_port": 80}]


@pytest.mark.parametrize(
    ("wanted", "entrypoint", "command"),
    [
        ({}, ["/start"], ["serve"]),
        ({"command": ("a", "b")}, ["/start"], ["a", "b"]),
        ({"entrypoint": "/bin/sh", "command": ("-c", "x")}, ["/bin/sh"], ["-c", "x"]),
        ({"entrypoint": "/bin/sh"}, ["/bin/sh"], []),
        ({"entrypoint": "", "command": ("ls", "/")}, ["ls", "/"], []),
    ],
)
def test_what_it_runs(wanted: dict[str, Any], entrypoint: list[str], command: list[str]) -> None:
    body = make(**wanted)
    assert (body["entrypoint"], body["command"]) == (entrypoint, command)


def test_variables() -> None:
    assert read_variables(["A=1", "B", "C", "D="], {"B": "here"}) == (("A", "1"), ("B", "here"), ("D", ""))
