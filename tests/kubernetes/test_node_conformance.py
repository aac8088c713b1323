# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own tests of node conformance: those that VMs can pass are run (`make test-node-conformance`), and the
list of the others fits the Kubernetes that is built here.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from pathlib import Path

import pytest

from support.conformance_images import make_images, start_image_registry
from support.conformance_programs import build_conformance_programs, find_kubernetes
from support.control_plane import ControlPlane
from support.host import ROOT, wait_until
from support.host_network import HostNetwork
from support.node_agent import NODE, Agent
from support.node_conformance import LIST, find_names, read_list, run_tests, show


def test_what_is_not_run_is_listed_and_the_count_is_published() -> None:
    names = find_names()
    listed = read_list(names)
    passing = len(names) - len(listed.skipped) - len(listed.failing)
    assert tomllib.loads(LIST.read_text())["passing"] == passing
    limits = (ROOT / "docs" / "reference" / "limits.md").read_text()
    assert f"{passing} of {len(names)} tests of node conformance" in limits


def prepare_node(control_plane: ControlPlane) -> None:
    """What an administrator does for pods that know nothing of our taint: the node itself may do neither."""

    def list_requests() -> list[str]:
        return control_plane.kubectl("get", "csr", "-o", "name").stdout.split()

    wait_until("a certificate is asked for", list_requests, 120)
    control_plane.kubectl("certificate", "approve", *list_requests())
    control_plane.kubectl("taint", "node", NODE, "virtual-kubelet.io/provider-")


@pytest.mark.heavy
@pytest.mark.timeout(3 * 3600)
def test_what_fits_vms_passes(
    control_plane: ControlPlane, agent: Agent, networks: list[HostNetwork], tmp_path: Path
) -> None:
    """NODE_CONFORMANCE: a regular expression of the names to run, those that are not run otherwise among them."""
    programs, names = build_conformance_programs(), find_names()
    listed, wanted = read_list(names), os.environ.get("NODE_CONFORMANCE")
    chosen = {name for name in names if (re.search(wanted, name) if wanted else name not in listed.skipped)}
    prepare_node(control_plane)
    version = (find_kubernetes() / "test" / "images" / "agnhost" / "VERSION").read_text().strip()
    with tempfile.TemporaryDirectory() as images:
        layouts = make_images(Path(images), programs, version)
        with start_image_registry(networks[0].prefix, layouts) as registry:
            outcomes = run_tests(control_plane, programs, registry, sorted(chosen), tmp_path)
    show(outcomes)
    passed = {one.name for one in outcomes if one.state == "passed"}
    failed = chosen - passed
    print(
        f"node conformance: {len(passed)} passed, {len(failed)} failed, {len(names - chosen)} skipped of {len(names)}"
    )
    assert not failed - set(listed.failing), f"failed, with what they said in {tmp_path / 'e2e.log'}"
    if not wanted:
        assert not passed & set(listed.failing), "they pass: node_conformance.toml is to say so"
