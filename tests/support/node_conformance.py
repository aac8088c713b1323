# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' tests of node conformance against a cluster of ours: which there are, what we list, how each ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from support.conformance_programs import find_kubernetes
from support.control_plane import ControlPlane
from support.host import ROOT

LIST = ROOT / "tests" / "kubernetes" / "node_conformance.toml"
# Guests boot beside each other, and some tests wait for minutes that nothing happens.
AT_A_TIME, TIMEOUT = 4, "2h"


@dataclass(frozen=True, slots=True)
class Listed:
    """What node_conformance.toml says: names of tests that are not run, and that fail, with the reasons."""

    skipped: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    name: str
    state: str
    seconds: float
    message: str


def find_names() -> set[str]:
    """Every test of node conformance, as Kubernetes lists them."""
    path = find_kubernetes() / "test" / "conformance" / "testdata" / "conformance.yaml"
    known = YAML(typ="safe").load(path)
    return {test["codename"] for test in known if "NodeConformance" in test["codename"]}


def read_list(names: set[str]) -> Listed:
    """Fails where the list does not fit what there is: a pattern of nothing, a test with two reasons."""
    document, listed = tomllib.loads(LIST.read_text()), Listed()
    for table, taken in (("skip", listed.skipped), ("fails", listed.failing)):
        for entry in document.get(table, []):
            for pattern in entry["patterns"]:
                found = {name for name in names if re.search(pattern, name)}
                assert found, f"{pattern}: no test is called so"
                again = found & (listed.skipped.keys() | listed.failing.keys())
                assert not again, f"{pattern}: another reason is given for {again}"
                taken.update(dict.fromkeys(found, entry["reason"]))
    return listed


def run_tests(
    control_plane: ControlPlane, programs: Path, registry: str, names: Sequence[str], folder: Path
) -> list[Outcome]:
    """These tests, several at a time; what they say is in e2e.log."""
    repositories = folder / "repositories.yaml"
    repositories.write_text(f"gcRegistry: {registry}\npromoterE2eRegistry: {registry}/e2e-test-images\n")
    focus = [f"--focus={re.escape(name)}$" for name in names]
    command = [
        str(programs / "ginkgo"), f"--procs={AT_A_TIME}", f"--timeout={TIMEOUT}", "--no-color", "--keep-going",
        f"--output-dir={folder}", "--json-report=report.json", *focus, str(programs / "e2e.test"), "--",
        f"--kubeconfig={control_plane.kubeconfig}", "--provider=skeleton", "--dump-logs-on-failure=false",
        f"--kubectl-path={control_plane.programs / 'kubectl'}", f"--e2e-output-dir={folder}",
    ]  # fmt: skip
    environment = {**os.environ, "KUBE_TEST_REPO_LIST": str(repositories), "HOME": str(folder)}
    with (folder / "e2e.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait()
        finally:
            # Those that run beside each other are processes of their own, which do not end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    report = folder / "report.json"
    if not report.exists():
        pytest.fail(f"the tests did not run:\n{(folder / 'e2e.log').read_text()[-4000:]}")
    return [outcome for outcome in _read(report) if outcome.name in set(names)]


def _read(report: Path) -> list[Outcome]:
    specs: list[dict[str, Any]] = [
        spec for suite in json.loads(report.read_text()) for spec in suite["SpecReports"] or []
    ]
    return [
        Outcome(
            " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]]), spec["State"],
            spec["RunTime"] / 1e9, spec.get("Failure", {}).get("Message", ""),
        )
        for spec in specs
        if spec["LeafNodeType"] == "It"
    ]  # fmt: skip


def show(outcomes: Sequence[Outcome]) -> None:
    """A line for each, and the first of what went wrong."""
    for outcome in sorted(outcomes, key=lambda one: one.name):
        print(f"{outcome.state:8} {outcome.seconds:6.0f} s  {outcome.name}", file=sys.stderr)
        for line in outcome.message.splitlines()[:6]:
            print(f"{'':20}{line[:200]}", file=sys.stderr)
