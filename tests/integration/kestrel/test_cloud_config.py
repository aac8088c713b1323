# SPDX-License-Identifier: Apache-2.0
"""The agent's reading of cloud-config against upstream's: Debian's package of cloud-init, which a test downloads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
KESTREL = REPOSITORY / "kestrel"
MERGES = KESTREL / "internal" / "cloudinit" / "testdata" / "merges.json"

# Runs where nothing but upstream's own modules can be imported. Reads the cases, writes what they are merged to.
MERGE_BY_UPSTREAM = """
import importlib.util, json, sys
from cloudinit import mergers
for parts in json.load(sys.stdin):
    merged = {}
    for part in parts:
        how = list(mergers.dict_extract_mergers(part["config"]))
        how += mergers.string_extract_mergers(part["header"])
        how = how or mergers.string_extract_mergers("dict(replace)+list()+str()")
        merged = mergers.construct(how).merge(merged, part["config"])
    print(json.dumps(merged))
"""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's package of cloud-init, unpacked."""
    folder = tmp_path_factory.mktemp("cloud-init")
    subprocess.run(
        ["apt-get", "-o", "APT::Sandbox::User=root", "download", "cloud-init"],
        cwd=folder, check=True, capture_output=True, timeout=800,
    )  # fmt: skip
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "root")], check=True)
    return folder / "root"


def walk_schema(schema: dict[str, Any], node: dict[str, Any], path: str) -> Iterator[str]:
    """Every path of a key: [] for an entry of a list, * for a name that is not fixed."""
    if "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node}
    named = [*node.get("properties", {}).items()]
    named += [("*", value) for value in node.get("patternProperties", {}).values()]
    if isinstance(node.get("additionalProperties"), dict):
        named.append(("*", node["additionalProperties"]))
    for key, value in named:
        below = f"{path}.{key}".lstrip(".")
        yield below
        yield from walk_schema(schema, value, below)
    items = node.get("items", [])
    for item in [items] if isinstance(items, dict) else items:
        yield from walk_schema(schema, item, f"{path}[]")
    for kind in ("allOf", "anyOf", "oneOf"):
        for choice in node.get(kind, []):
            yield from walk_schema(schema, choice, path)


def run_go_test(name: str, **environment: str) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs the Go toolchain")
    ended = subprocess.run(
        [go, "test", "-count=1", "-v", "-run", f"^{name}$", "./internal/cloudinit"],
        cwd=KESTREL, env={**os.environ, **environment}, capture_output=True, text=True, timeout=800,
    )  # fmt: skip
    assert ended.returncode == 0 and "SKIP" not in ended.stdout, ended.stdout[-8000:] + ended.stderr[-2000:]


def test_every_key_of_debians_schema_is_in_the_table(upstream: Path, tmp_path: Path) -> None:
    (file,) = upstream.glob(
        "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"
    )
    schema = json.loads(file.read_text())
    keys = sorted(set(walk_schema(schema, schema, "")))
    (tmp_path / "keys").write_text("\n".join(keys) + "\n")
    run_go_test("TestEveryKeyOfTheSchemaIsInTheTable", VOLANT_CLOUD_CONFIG_KEYS=str(tmp_path / "keys"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_upstreams_examples_ask_for_is_done_or_reported(upstream: Path) -> None:
    run_go_test(
        "TestUpstreamsExamples",
        VOLANT_CLOUD_CONFIG_EXAMPLES=str(upstream / "usr/share/doc/cloud-init/examples"),
    )


def test_upstream_merges_as_recorded(upstream: Path) -> None:
    cases = json.loads(MERGES.read_text())
    ended = subprocess.run(
        [sys.executable, "-S", "-c", MERGE_BY_UPSTREAM],
        env={"PYTHONPATH": str(upstream / "usr/lib/python3/dist-packages")},
        input=json.dumps([case["parts"] for case in cases]),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    merged = [json.loads(line) for line in ended.stdout.splitlines()]
    assert merged == [case["merged"] for case in cases]
