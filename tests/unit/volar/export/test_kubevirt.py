# SPDX-License-Identifier: Apache-2.0
"""Pure functions; the CRD itself is asked in tests/kubernetes/test_kubevirt.py."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from support.exported_machines import IMAGE, list_machines, make_document, make_machine
from volant.volar.export.kubevirt import make_objects
from volant.volar.export.machine import ExportedMachine


def find(kind: str, objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [each for each in objects if each["kind"] == kind]
    return found


def test_a_disk_without_a_boot_loader_is_booted_by_the_kernel_beside_it() -> None:
    objects = make_objects(make_machine())
    assert [each["kind"] for each in objects] == ["Service", "VirtualMachine"]
    machine = find("VirtualMachine", objects)
    assert machine["spec"]["runStrategy"] == "RerunOnFailure"
    spec = machine["spec"]["template"]["spec"]
    domain = spec["domain"]
    assert domain["cpu"] == {"cores": 2}
    assert domain["memory"] == {"guest": "512Mi"}
    assert domain["firmware"] == {
        "bootloader": {"bios": {}},
        "kernelBoot": {
            "kernelArgs": "console=ttyS0 quiet",
            "container": {"image": IMAGE, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd"},
        },
    }
    assert domain["devices"]["disks"] == [{"name": "root", "serial": "root", "disk": {"bus": "virtio"}}]
    assert domain["devices"]["interfaces"][0]["macAddress"] == "52:54:00:12:34:56"
    assert spec["volumes"] == [{"name": "root", "containerDisk": {"image": IMAGE}}]
    assert spec["terminationGracePeriodSeconds"] == 30


def test_health_checks_are_probes_of_which_the_one_that_restarts_is_the_more_patient() -> None:
    spec = find("VirtualMachine", make_objects(make_machine()))["spec"]["template"]["spec"]
    asked = {"httpGet": {"path": "/health", "port": 80}, "periodSeconds": 5, "timeoutSeconds": 2}
    assert spec["readinessProbe"] == {**asked, "failureThreshold": 4}
    assert spec["livenessProbe"] == {**asked, "failureThreshold": 12, "initialDelaySeconds": 120}
    connecting = find("VirtualMachine", make_objects(list_machines()["checked by connecting"]))["spec"]
    assert connecting["template"]["spec"]["readinessProbe"]["tcpSocket"] == {"port": 80}
    without = find("VirtualMachine", make_objects(list_machines()["without ports"]))["spec"]
    assert not [key for key in without["template"]["spec"] if key.endswith("Probe")]
    assert without["runStrategy"] == "Once"


def test_published_ports_are_a_service_that_finds_the_machine_by_its_label() -> None:
    objects = make_objects(make_machine(), namespace="shops")
    service, machine = find("Service", objects), find("VirtualMachine", objects)
    assert service["spec"]["ports"] == [
        {"name": "tcp-8080", "protocol": "TCP", "port": 8080, "targetPort": 80},
        {"name": "udp-5353", "protocol": "UDP", "port": 5353, "targetPort": 53},
    ]
    labels = machine["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert labels["app.kubernetes.io/version"] == "1.0.0-build.7", "a + is in no label"
    assert labels["team"] == "web"
    assert "no label" not in labels
    assert {each["metadata"]["namespace"] for each in objects} == {"shops"}


def test_variables_are_a_secret_which_comes_as_a_disk() -> None:
    objects = make_objects(make_machine(document=make_document(environment={"WHO": "ana"})))
    secret = find("Secret", objects)
    assert secret["stringData"] == {"WHO": "ana"}
    spec = find("VirtualMachine", objects)["spec"]["template"]["spec"]
    assert {"name": "environment", "secret": {"secretName": secret["metadata"]["name"]}} in spec["volumes"]
    disk = {"name": "environment", "serial": "environment", "disk": {"bus": "virtio"}}
    assert disk in spec["domain"]["devices"]["disks"]


def test_a_disk_that_is_to_stay_is_a_volume_filled_from_the_image() -> None:
    machine = find("VirtualMachine", make_objects(make_machine(), persistent=True))
    (template,) = machine["spec"]["dataVolumeTemplates"]
    assert template["spec"]["source"] == {"registry": {"url": f"docker://{IMAGE}"}}
    assert template["spec"]["storage"] == {"resources": {"requests": {"storage": "10240Mi"}}}
    volumes = machine["spec"]["template"]["spec"]["volumes"]
    assert volumes == [{"name": "root", "dataVolume": {"name": template["metadata"]["name"]}}]


def test_a_whole_system_boots_itself_and_a_plugin_in_ram_has_no_disk() -> None:
    domain = find("VirtualMachine", make_objects(list_machines()["a whole system"]))["spec"]["template"][
        "spec"
    ]
    assert domain["domain"]["firmware"] == {"bootloader": {"bios": {}}}
    in_ram = find("VirtualMachine", make_objects(list_machines()["in RAM"], persistent=True))["spec"]
    assert in_ram["template"]["spec"]["volumes"] == []
    assert "dataVolumeTemplates" not in in_ram


@pytest.mark.parametrize("machine", list_machines().values(), ids=list(list_machines()))
def test_what_is_kubernetes_own_is_valid_by_its_newest_schemas(machine: ExportedMachine) -> None:
    for document in make_objects(machine, namespace="shops"):
        if document["apiVersion"] == "v1":
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
