# SPDX-License-Identifier: Apache-2.0
"""What `volar export kubevirt` writes, given to a real API server that has KubeVirt's definition of its machines."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator

import pytest

from support.control_plane import ControlPlane
from support.exported_machines import VARIABLES, list_machines
from support.kubevirt_crd import make_crd
from volant.volar.export.kubevirt import make_objects
from volant.volar.export.machine import ExportedMachine
from volant.volar.export.yaml_text import write_documents

STRICT = ("--dry-run=server", "--validate=strict", "-f", "-")


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    # By server-side apply: what apply keeps of it in an annotation would be too long.
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(make_crd()))
    control_plane.wait_for(
        lambda: control_plane.kubectl("get", "virtualmachines.kubevirt.io", check=False).returncode == 0
    )
    yield control_plane
    control_plane.kubectl("delete", "crd/virtualmachines.kubevirt.io")


@pytest.mark.parametrize("persistent", [False, True], ids=["ephemeral", "persistent"])
@pytest.mark.parametrize("machine", list_machines().values(), ids=list(list_machines()))
def test_every_kind_of_machine_is_valid(
    cluster: ControlPlane, machine: ExportedMachine, persistent: bool
) -> None:
    text = write_documents(make_objects(machine, persistent=persistent))
    made = cluster.kubectl("create", *STRICT, "-o", "json", stdin=text).stdout
    assert '"VirtualMachine"' in made


def test_variables_arrive_as_they_were(cluster: ControlPlane) -> None:
    text = write_documents(make_objects(list_machines()["with variables"]))
    cluster.kubectl("create", "--validate=strict", "-f", "-", stdin=text)
    try:
        cluster.kubectl("get", "virtualmachines.kubevirt.io", "shop")
        stored = cluster.get("secret", "shop-environment")["data"]
        assert {name: base64.b64decode(value).decode() for name, value in stored.items()} == VARIABLES
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=text)


def test_what_is_wrong_is_found(cluster: ControlPlane) -> None:
    (machine,) = (each for each in make_objects(list_machines()["plain"]) if each["kind"] == "VirtualMachine")
    unknown, mistyped = copy.deepcopy(machine), copy.deepcopy(machine)
    unknown["spec"]["template"]["spec"]["domain"]["devices"]["disks"][0]["serialNumber"] = "root"
    mistyped["spec"]["template"]["spec"]["domain"]["cpu"]["cores"] = "two"
    for wrong, said in ((unknown, "serialNumber"), (mistyped, "cores")):
        refused = cluster.kubectl("create", *STRICT, stdin=write_documents([wrong]), check=False)
        assert refused.returncode == 1
        assert said in refused.stderr
