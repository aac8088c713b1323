# SPDX-License-Identifier: Apache-2.0
"""The list of node conformance tests that VMs cannot pass fits the Kubernetes that is built here."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from ruamel.yaml import YAML

from support.control_plane import MODULES
from support.host import ROOT

LIST = Path(__file__).parent / "node_conformance.toml"


def test_what_is_skipped_is_there_and_the_rest_is_counted() -> None:
    command = ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]
    done = subprocess.run(
        command, cwd=MODULES / "kubernetes", capture_output=True, text=True, check=True, timeout=300
    )
    known = YAML(typ="safe").load(Path(done.stdout.strip()) / "test/conformance/testdata/conformance.yaml")
    names = {test["codename"] for test in known if "NodeConformance" in test["codename"]}
    listed = tomllib.loads(LIST.read_text())
    skipped: set[str] = set()
    for skip in listed["skip"]:
        for pattern in skip["patterns"]:
            found = {name for name in names if re.search(pattern, name)}
            assert found, f"{pattern}: no test is called so"
            assert not found & skipped, f"{pattern}: another reason is given too"
            skipped |= found
    assert len(names - skipped) == listed["fitting"]
    limits = (ROOT / "docs" / "reference" / "limits.md").read_text()
    assert f"{listed['fitting']} of {len(names)} tests of node conformance" in limits
