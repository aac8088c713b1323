# SPDX-License-Identifier: Apache-2.0
"""The editors' schema of the agent's config agrees with the golden documents, which the agent's own tests read too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

CONTRACT = Path(__file__).parents[3] / "contract"
GOLDEN = CONTRACT / "golden" / "kestrel-config"
SCHEMA = json.loads((CONTRACT / "kestrel-config.schema.json").read_text())


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((GOLDEN / "valid").glob("*.yaml")), ids=lambda path: path.stem)
def test_valid_documents_pass(path: Path) -> None:
    assert list(Draft202012Validator(SCHEMA).iter_errors(load(path))) == []


@pytest.mark.parametrize("path", sorted((GOLDEN / "invalid").glob("*.yaml")), ids=lambda path: path.stem)
def test_invalid_documents_fail_where_a_schema_can_see_it(path: Path) -> None:
    if "# schema: silent" in path.read_text():
        return
    assert list(Draft202012Validator(SCHEMA).iter_errors(load(path)))


def test_the_documented_example_passes() -> None:
    page = (CONTRACT.parent / "docs" / "reference" / "kestrel-config.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert list(Draft202012Validator(SCHEMA).iter_errors(YAML(typ="safe", pure=True).load(example))) == []


def test_the_schemas_defaults_are_the_agents() -> None:
    """The reference is made of the schema; what counts is the agent's."""
    source = (CONTRACT.parent / "kestrel" / "internal" / "config" / "config.go").read_text()
    units = {"Millisecond": "ms", "Second": "s"}
    agents = {
        name: f"{count}{units[unit]}" if unit else int(count)
        for name, count, unit in re.findall(
            r"^\tDefault(\w+)\s*= (\d+)(?: \* time\.(\w+))?$", source, re.MULTILINE
        )
    }
    parts, hooks = SCHEMA["$defs"], SCHEMA["properties"]["hooks"]["properties"]
    described = parts["exec"]["properties"]
    assert agents == {
        "Backoff": described["backoff"]["default"],
        "StopTimeout": described["stop_timeout"]["default"],
        "HookTimeout": hooks["timeout"]["default"],
        "Interval": parts["interval"]["default"],
        "ProbeTimeout": parts["timeout"]["default"],
        "ExecTimeout": re.findall(r"`exec` (\w+)", parts["timeout"]["description"])[0],
        "Retries": parts["retries"]["default"],
    }
