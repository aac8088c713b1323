# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from volant.volar.compose.model import Service, Stack


def test_numbers_and_words_are_taken_as_people_write_them() -> None:
    service = Service.model_validate(
        {
            "image": "i",
            "user": 1000,
            "scale": "2",
            "cpus": "0.5",
            "init": "true",
            "expose": [80, "81"],
            "x-y": {"z": 1},
        }
    )
    assert (service.user, service.scale, service.cpus, service.init) == ("1000", 2, 0.5, True)
    assert service.expose == ["80", "81"]


def test_a_key_with_nothing_after_it_says_nothing() -> None:
    service = Service.model_validate({"image": "i", "ports": None, "depends_on": None, "command": None})
    assert (service.ports, service.depends_on, service.command) == ([], {}, None)
    assert Stack.model_validate({"volumes": {"a": None}}).volumes["a"].external is False


def test_long_forms_are_what_short_forms_become() -> None:
    service = {
        "image": "i", "ports": ["1:2"], "volumes": ["v:/a:ro"], "env_file": "e", "secrets": ["s"], "networks": ["n"],
        "depends_on": ["b"], "build": ".",
    }  # fmt: skip
    stack = Stack.model_validate({"services": {"a": service}})
    assert Stack.model_validate(stack.model_dump(exclude_unset=True, by_alias=True)) == stack


@pytest.mark.parametrize(
    "service",
    [
        {"imagee": "x"}, {"ports": {"a": 1}}, {"volumes": "x"}, {"depends_on": "db"}, {"healthcheck": ["x"]},
        {"scale": -1}, {"deploy": {"replicas": 10_000}}, {"x-volant": {"cpu": 1}}, {"x-volant": {"egress": "nowhere"}},
        {"cpus": 0},
        {"secrets": [{"target": "x"}]}, "image",
    ],
)  # fmt: skip
def test_what_is_none_is_refused(service: Any) -> None:
    with pytest.raises(ValidationError):
        Service.model_validate(service)
