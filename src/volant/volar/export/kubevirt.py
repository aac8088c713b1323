# SPDX-License-Identifier: Apache-2.0
"""A machine as objects of Kubernetes with KubeVirt: pure functions.

KubeVirt boots a disk without a boot loader by `firmware.kernelBoot`: kernel and boot archive come from an image, here
the disk's own. A Secret that is a volume comes to the guest as a disk of files, found by its serial number as the root
disk is. Source: kubevirt.io/api, core/v1; tests hold what is made here to the CRD of KubeVirt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from volant.contract.boot_files import ENVIRONMENT_SERIAL, ROOT_SERIAL
from volant.volar.export.disk_image import INITRD_PATH, KERNEL_PATH
from volant.volar.export.machine import STOP_RESERVE_SECONDS, Check, ExportedMachine, Port

NAME_LABEL, VERSION_LABEL = "app.kubernetes.io/name", "app.kubernetes.io/version"
# Restart policies are Docker's here, run strategies KubeVirt's.
STRATEGIES = {"no": "Once", "always": "Always", "unless-stopped": "Always"}
USUAL_STRATEGY = "RerunOnFailure"
# A guest under emulation takes its time to boot, and whoever restarts one for a slow answer makes it slower.
FIRST_LIVENESS_SECONDS, LIVENESS_FAILURES = 120, 3
MEBIBYTE = 1 << 20


def make_objects(
    machine: ExportedMachine, *, namespace: str = "", persistent: bool = False
) -> list[dict[str, Any]]:
    """In the order in which they are to be made. `persistent`: the disk is a PersistentVolumeClaim, filled once from
    the image by CDI; else it is as in the image again whenever the machine is started."""
    metadata = {**({"namespace": namespace} if namespace else {}), "labels": _make_labels(machine)}
    objects = []
    if machine.document["environment"]:
        objects.append(_make_secret(machine, metadata))
    if machine.ports:
        objects.append(_make_service(machine, metadata))
    return [*objects, _make_virtual_machine(machine, metadata, persistent=persistent)]


def _make_labels(machine: ExportedMachine) -> dict[str, str]:
    kept = {name: value for name, value in machine.labels.items() if _is_label(name, value)}
    version = re.sub(r"[^A-Za-z0-9_.-]", "-", machine.version)[:63].rstrip("-_.")
    return {**kept, NAME_LABEL: machine.name, VERSION_LABEL: version}


def _is_label(name: str, value: str) -> bool:
    """Whether Kubernetes would take it, too."""
    prefix, slash, plain = name.rpartition("/")
    word = r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)"
    domain = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
    is_named = re.fullmatch(word, plain) is not None and (
        not slash or re.fullmatch(domain, prefix) is not None
    )
    return is_named and len(prefix) <= 253 and re.fullmatch(f"{word}?", value) is not None


def _make_secret(machine: ExportedMachine, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"{machine.name}-environment", **metadata},
        "type": "Opaque",
        "stringData": dict(machine.document["environment"]),
    }


def _make_service(machine: ExportedMachine, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": machine.name, **metadata},
        "spec": {
            "selector": {NAME_LABEL: machine.name},
            "ports": [_make_service_port(port) for port in machine.ports],
        },
    }


def _make_service_port(port: Port) -> dict[str, Any]:
    return {
        "name": f"{port.protocol}-{port.port}",
        "protocol": port.protocol.upper(),
        "port": port.port,
        "targetPort": port.target,
    }


def _make_virtual_machine(
    machine: ExportedMachine, metadata: Mapping[str, Any], *, persistent: bool
) -> dict[str, Any]:
    document = machine.document
    spec: dict[str, Any] = {"runStrategy": STRATEGIES.get(machine.restart, USUAL_STRATEGY)}
    if persistent and document["disk_format"] is not None:
        spec["dataVolumeTemplates"] = [_make_data_volume(machine)]
    spec["template"] = {
        "metadata": {"labels": metadata["labels"]},
        "spec": {
            "architecture": document["architecture"],
            "terminationGracePeriodSeconds": math.ceil(document["stop_seconds"]) + STOP_RESERVE_SECONDS,
            "domain": _make_domain(machine),
            "networks": [{"name": "default", "pod": {}}],
            **_make_probes(machine.check),
            "volumes": _make_volumes(machine, persistent=persistent),
        },
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": machine.name, **metadata},
        "spec": spec,
    }


def _make_domain(machine: ExportedMachine) -> dict[str, Any]:
    disks = []
    if machine.document["disk_format"] is not None:
        disks.append({"name": "root", "serial": ROOT_SERIAL, "disk": {"bus": "virtio"}})
    if machine.document["environment"]:
        disks.append({"name": "environment", "serial": ENVIRONMENT_SERIAL, "disk": {"bus": "virtio"}})
    card = {
        "name": "default",
        "model": "virtio",
        # Known to the guest's agent. Behind a pod's masquerade nobody else sees it: copies may have the same.
        "macAddress": machine.document["mac"],
        "masquerade": {},
    }
    return {
        "cpu": {"cores": machine.vcpu},
        "memory": {"guest": f"{machine.memory_mb}Mi"},
        "firmware": _make_firmware(machine),
        "devices": {
            "autoattachGraphicsDevice": False,
            "rng": {},
            "disks": disks,
            "interfaces": [card],
        },
    }


def _make_firmware(machine: ExportedMachine) -> dict[str, Any]:
    document = machine.document
    loader = {"efi": {"secureBoot": False}} if document["firmware"] == "uefi" else {"bios": {}}
    if document["boot"] == "firmware":
        return {"bootloader": loader}
    kernel = {"image": machine.image, "kernelPath": KERNEL_PATH, "initrdPath": INITRD_PATH}
    return {
        "bootloader": loader,
        "kernelBoot": {"kernelArgs": document["kernel_arguments"], "container": kernel},
    }


def _make_probes(check: Check | None) -> dict[str, Any]:
    if check is None:
        return {}
    ask = (
        {"tcpSocket": {"port": check.port}}
        if check.path is None
        else {"httpGet": {"path": check.path, "port": check.port}}
    )
    ready = {
        **ask,
        "periodSeconds": check.period_seconds,
        "timeoutSeconds": check.timeout_seconds,
        "failureThreshold": check.failures,
    }
    live = {
        **ready,
        "initialDelaySeconds": FIRST_LIVENESS_SECONDS,
        "failureThreshold": check.failures * LIVENESS_FAILURES,
    }
    return {"readinessProbe": ready, "livenessProbe": live}


def _make_volumes(machine: ExportedMachine, *, persistent: bool) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = []
    if machine.document["disk_format"] is not None:
        source = (
            {"dataVolume": {"name": f"{machine.name}-root"}}
            if persistent
            else {"containerDisk": {"image": machine.image}}
        )
        volumes.append({"name": "root", **source})
    if machine.document["environment"]:
        volumes.append({"name": "environment", "secret": {"secretName": f"{machine.name}-environment"}})
    return volumes


def _make_data_volume(machine: ExportedMachine) -> dict[str, Any]:
    size = f"{-(-machine.document['disk_bytes'] // MEBIBYTE)}Mi"
    return {
        "metadata": {"name": f"{machine.name}-root"},
        "spec": {
            "source": {"registry": {"url": f"docker://{machine.image}"}},
            "storage": {"resources": {"requests": {"storage": size}}},
        },
    }
