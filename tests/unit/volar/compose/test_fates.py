# SPDX-License-Identifier: Apache-2.0
"""What becomes of keys, and that we know them all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from volant.volar.compose import model
from volant.volar.compose.fates import LEFT_OUT, MODELS, QUIET, REFUSED, Fate, list_fates, list_warnings
from volant.volar.compose.model import Stack

# Of a checkout of compose-spec/compose-spec: its schema is not ours to carry.
SCHEMA = os.environ.get("VOLANT_COMPOSE_SCHEMA", "")


def test_every_answer_is_about_a_key_that_there_is() -> None:
    keys = {(kind.__name__, key) for kind in MODELS for key in kind.model_fields}
    assert set(LEFT_OUT) | set(REFUSED) <= keys
    assert not set(LEFT_OUT) & set(REFUSED)
    assert set(LEFT_OUT) >= QUIET


def test_every_key_that_is_only_kept_has_an_answer() -> None:
    """A key that no code reads is left out or refused, never dropped in silence."""
    untyped = {
        (kind.__name__, key)
        for kind in MODELS
        for key, field in kind.model_fields.items()
        if field.annotation is Any and (kind.__name__, key) != ("Service", "extends")
    }
    assert untyped <= set(LEFT_OUT) | set(REFUSED)


def test_one_warning_a_key_names_all_who_have_it() -> None:
    service = {"image": "i", "privileged": True, "pid": "host"}
    stack = Stack.model_validate({"services": {"a": service, "b": {"image": "i", "privileged": True}}})
    lines = list_warnings(stack)
    assert len(lines) == 2
    assert any(line.startswith("services.a.privileged, services.b.privileged: left out") for line in lines)


def test_every_key_that_was_written_has_a_fate() -> None:
    stack = Stack.model_validate(
        {
            "services": {
                "a": {
                    "image": "i",
                    "volumes_from": ["b"],
                    "healthcheck": {"test": "x", "start_interval": "1s"},
                }
            }
        }
    )
    assert {each.place: each.fate for each in list_fates(stack)} == {
        "services.a.image": Fate.DONE,
        "services.a.healthcheck.test": Fate.DONE,
        "services.a.healthcheck.start_interval": Fate.LEFT_OUT,
        "services.a.volumes_from": Fate.REFUSED,
    }


def test_what_is_not_really_done_is_told() -> None:
    service = {
        "image": "i", "container_name": "c", "attach": False, "depends_on": {"b": {"restart": True}},
    }  # fmt: skip
    stack = Stack.model_validate({"services": {"a": service}, "volumes": {"v": {"labels": {"l": "1"}}}})
    lines = " ".join(list_warnings(stack))
    for place in (
        "services.a.container_name", "services.a.attach", "services.a.depends_on.b.restart", "volumes.v.labels",
    ):  # fmt: skip
        assert f"{place}: left out" in lines


@pytest.mark.skipif(not SCHEMA, reason="VOLANT_COMPOSE_SCHEMA names no schema/compose-spec.json")
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("", model.Stack), ("service", model.Service), ("healthcheck", model.HealthCheck), ("deployment", model.Deploy),
        ("network", model.Network), ("volume", model.Volume), ("secret", model.NamedContent),
        ("config", model.NamedContent), ("service/build", model.Build), ("service/ports", model.Port),
        ("service/volumes", model.ServiceVolume), ("service/networks", model.ServiceNetwork),
        ("service_config_or_secret", model.FileReference), ("env_file", model.FileToRead),
        ("deployment/resources/limits", model.Limits), ("deployment/resources/reservations", model.Reservations),
        ("deployment/restart_policy", model.RestartPolicy), ("deployment/update_config", model.UpdateConfig),
    ],
)  # fmt: skip
def test_the_model_has_every_key_of_the_specification(place: str, kind: type[BaseModel]) -> None:
    schema = json.loads(Path(SCHEMA).read_text())
    definitions = schema.get("definitions") or schema["$defs"]
    name, *inner = place.split("/")
    part = definitions[name] if name else schema
    for key in inner:
        part = part["properties"][key]
    wanted = {key for key in _find_keys(part) if not key.startswith("x-")}
    assert len(wanted) > 2
    known = {field.alias or key for key, field in kind.model_fields.items()}
    assert wanted <= known, wanted - known
    if kind is not model.NamedContent:  # which is both of configs and of secrets
        assert {key for key in known if not key.startswith("x-")} <= wanted


def _find_keys(part: Any) -> set[str]:
    """Those of the object that a value may be."""
    if "properties" in part:
        return set(part["properties"])
    parts = [*part.get("oneOf", []), *part.get("anyOf", [])]
    parts += [part[key] for key in ("items",) if key in part]
    parts += list(part.get("patternProperties", {}).values())
    return {key for each in parts for key in _find_keys(each)}
