# SPDX-License-Identifier: Apache-2.0
"""The pages of API and manifest: every request and type is there, links lead somewhere, and the example is one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from volant.contract.manifest import Manifest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import schema_pages  # noqa: E402  scripts are no package

REFERENCE = ROOT / "docs" / "reference"
OPENAPI = json.loads((REFERENCE / "openapi.json").read_text())


def test_every_request_says_what_it_does_and_every_type_has_a_table() -> None:
    page = schema_pages.make_api_page((REFERENCE / "openapi.json").read_text())
    for path, operations in OPENAPI["paths"].items():
        for method, operation in operations.items():
            shown = path.removeprefix("/api/v1") if path.startswith("/api/v1/") else path
            assert f"| `{method.upper()} {shown}` |" in page
            assert operation.get("description"), f"{operation['operationId']} has no docstring"
    headings = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert headings == set(OPENAPI["components"]["schemas"])


@pytest.mark.parametrize("name", ["api.md", "manifest.md"])
def test_links_within_a_page_lead_to_its_headings(name: str) -> None:
    page = (REFERENCE / name).read_text()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    targets = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert targets
    assert targets - headings == set()


def test_the_example_is_a_manifest() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", schema_pages.MANIFEST_HEAD + "\n", re.MULTILINE | re.DOTALL)
    assert Manifest.model_validate_json(block).name == "web"


def test_types_are_words() -> None:
    assert schema_pages.name_type({"anyOf": [{"type": "string"}, {"type": "null"}]}) == "string or null"
    assert (
        schema_pages.name_type({"type": "array", "items": {"$ref": "#/$defs/Disk"}})
        == "list of [Disk](#disk)"
    )
    assert schema_pages.name_type({"enum": ["a", "b"]}) == "`a`, `b`"
    named = {"type": "object", "additionalProperties": {"type": "string"}}
    assert schema_pages.name_type(named) == "names with string"
    assert schema_pages.make_table(("a",), [("x|<y>\nz",)]).endswith("| x\\|&lt;y> z |")
