# SPDX-License-Identifier: Apache-2.0
"""Claims of a real cluster as volumes of this host: made, kept from others, kept for the next pod, and taken away."""

from __future__ import annotations

import json
import re
from typing import Any

from support.control_plane import ControlPlane
from support.host import ROOT, Host
from support.node_agent import NODE, Agent
from support.pods import make_pod, make_pod_spec, wait_ready
from volant.kubernetes.persistent_volumes import CLASS, HOSTNAME, PROVISIONER

KEPT_CLASS = f"{CLASS}-kept"
SIZE = 64 << 20


def make_claim_spec(storage_class: str) -> dict[str, Any]:
    return {
        "accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
        "resources": {"requests": {"storage": str(SIZE)}},
    }  # fmt: skip


def make_database() -> str:
    """A StatefulSet of one, and a claim of a class that keeps."""
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    labels = {"app": "db"}
    spec = make_pod_spec(container=container, nodeSelector={HOSTNAME: NODE})
    database = {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 1, "serviceName": "db", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": make_claim_spec(CLASS)}],
        },
    }  # fmt: skip
    keeps = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": KEPT_CLASS},
        "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain",
    }  # fmt: skip
    kept = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "kept"},
        "spec": make_claim_spec(KEPT_CLASS),
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [database, keeps, kept]})


def make_second() -> str:
    """Another pod that wants the StatefulSet's volume, and one of its own."""
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}},
        {"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    return make_pod(
        "second", container={"volumeMounts": mounts}, volumes=volumes, nodeSelector={HOSTNAME: NODE}
    )


def make_volume(name: str = "pvc-1", **changes: Any) -> str:
    """A PersistentVolume as the node makes them, with changes."""
    here = {"key": HOSTNAME, "operator": "In", "values": [changes.pop("node", NODE)]}
    spec = {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": CLASS,
        "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "other", "uid": "1"},
        "local": {"path": f"/volant/volumes/{name}"}, "persistentVolumeReclaimPolicy": "Retain",
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        **changes,
    }  # fmt: skip
    metadata = {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}}
    return json.dumps({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})


def list_volumes(host: Host) -> list[str]:
    return [volume["name"] for volume in json.loads(host.volar("volumes", "list", "-o", "json").stdout)]


def find_volume(control_plane: ControlPlane, claim: str) -> str:
    return str(control_plane.get("pvc", claim)["spec"]["volumeName"])


def test_a_node_may_make_volumes_on_itself_and_nothing_else(
    control_plane: ControlPlane, agent: Agent
) -> None:
    key = control_plane.make_node_kubeconfig(NODE)

    def try_as_node(*arguments: str, stdin: str | None = None) -> str:
        return control_plane.kubectl(*arguments, f"--kubeconfig={key}", check=False, stdin=stdin).stderr

    def try_to_make(text: str) -> str:
        return try_as_node("create", "--dry-run=server", "-f", "-", stdin=text)

    # The policy counts a moment after it was made.
    control_plane.wait_for(lambda: "lie on itself" in try_to_make(make_volume(node="host-2")))
    assert try_to_make(make_volume()) == ""
    host_path: dict[str, Any] = {"local": None, "hostPath": {"path": "/"}}
    for wrong, told in (
        (make_volume(storageClassName="fast"), "of Volant's classes"),
        (make_volume(nodeAffinity=None, **host_path), "lie on itself"),
        (make_volume(**host_path), "of its daemon's"),
        (make_volume(local={"path": "/etc"}), "of its daemon's"),
        (make_volume("pvc-2", local={"path": "/volant/volumes/pvc-2"}), "for claims"),
    ):
        assert told in try_to_make(wrong), told
    for name, node in (("pvc-1", "host-2"), ("pvc-3", NODE)):
        made = make_volume(name, node=node, claimRef={"namespace": "default", "name": "o", "uid": name[4:]})
        control_plane.kubectl("create", "-f", "-", stdin=made)
    assert "lie on itself" in try_as_node("delete", "pv", "pvc-1")
    larger = '{"spec": {"capacity": {"storage": "2Gi"}}}'
    assert "changes no volume" in try_as_node("patch", "pv", "pvc-3", "--patch", larger)
    control_plane.kubectl("delete", "pv", "pvc-1", "pvc-3")
    for forbidden in (
        ("get", "secrets", "-A"), ("delete", "storageclass", CLASS), ("delete", "clusterrole", "volant:volumes"),
    ):  # fmt: skip
        assert "Forbidden" in try_as_node(*forbidden), forbidden
    for verb, kind in (
        ("create", "persistentvolumeclaims"), ("patch", "persistentvolumeclaims"), ("update", "persistentvolumes"),
        ("patch", "storageclasses"), ("create", "clusterrolebindings"),
        ("delete", "validatingadmissionpolicies"),
    ):  # fmt: skip
        said = control_plane.kubectl("auth", "can-i", verb, kind, f"--kubeconfig={key}", check=False)
        assert said.stdout.startswith("no"), (verb, kind)


def test_the_documentations_example_is_one(control_plane: ControlPlane) -> None:
    text = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    control_plane.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=example, timeout=120
    )


def test_a_claim_is_a_volume_that_outlives_its_pod(
    control_plane: ControlPlane, agent: Agent, host: Host
) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=make_database())
    control_plane.wait_for(lambda: control_plane.kubectl("get", "pod", "db-0", check=False).returncode == 0)
    wait_ready(control_plane, "db-0")
    name = find_volume(control_plane, "data-db-0")
    assert list_volumes(host) == [name]
    volume = control_plane.get("pv", name)
    assert volume["spec"]["capacity"]["storage"] == str(SIZE)
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    events = control_plane.get("events", "--field-selector=involvedObject.name=data-db-0")["items"]
    assert "ProvisioningSucceeded" in {event["reason"] for event in events}
    mounts = control_plane.kubectl("exec", "db-0", "--", "cat", "/proc/mounts").stdout
    assert any(line.split()[1:3] == ["/data", "ext4"] for line in mounts.splitlines())
    control_plane.kubectl("exec", "db-0", "--", "sh", "-c", "echo precious >/data/rows")

    before = control_plane.get("pod", "db-0")["metadata"]["uid"]
    control_plane.kubectl("delete", "pod", "db-0")

    def is_replaced() -> bool:
        done = control_plane.kubectl("get", "pod", "db-0", "-o", "json", check=False)
        return done.returncode == 0 and json.loads(done.stdout)["metadata"]["uid"] != before

    control_plane.wait_for(is_replaced)
    wait_ready(control_plane, "db-0")
    assert control_plane.kubectl("exec", "db-0", "--", "cat", "/data/rows").stdout == "precious\n"
    assert list_volumes(host) == [name]


def test_one_vm_writes_and_the_next_one_waits_for_it(control_plane: ControlPlane, agent: Agent) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=make_second())

    def find_wait() -> str:
        statuses = control_plane.get("pod", "second")["status"].get("containerStatuses", [])
        return "".join(one["state"].get("waiting", {}).get("message", "") for one in statuses)

    control_plane.wait_for(lambda: "writes to volume" in find_wait())
    control_plane.kubectl("delete", "statefulset", "db")
    wait_ready(control_plane, "second")
    said = control_plane.kubectl(
        "exec", "second", "--", "sh", "-c", "cat /data/rows; echo mine >/kept/mine; sync"
    )
    assert said.stdout == "precious\n"


def test_a_volume_goes_with_its_claim_unless_its_class_keeps_it(
    control_plane: ControlPlane, agent: Agent, host: Host
) -> None:
    made, kept = (find_volume(control_plane, claim) for claim in ("data-db-0", "kept"))
    # What its claim leaves while nobody is here is found when the agent comes again.
    control_plane.kubectl("delete", "pod", "second")
    agent.kill()
    control_plane.kubectl("delete", "pvc", "data-db-0", "kept")
    agent.start()
    control_plane.wait_for(lambda: list_volumes(host) == [kept])
    control_plane.wait_for(lambda: control_plane.kubectl("get", "pv", made, check=False).returncode != 0)
    assert control_plane.get("pv", kept)["status"]["phase"] == "Released"
    control_plane.kubectl("delete", "pv", kept)
    assert list_volumes(host) == [kept]
    host.volar("volumes", "delete", kept)


def test_what_no_volume_can_be_is_told_at_the_claim(control_plane: ControlPlane, agent: Agent) -> None:
    shared = make_claim_spec(CLASS) | {"accessModes": ["ReadWriteMany"]}
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": shared,
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}]
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = make_pod("sharing", container=container, volumes=volumes, nodeSelector={HOSTNAME: NODE})
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": [claim, json.loads(pod)]})
    control_plane.kubectl("apply", "-f", "-", stdin=items)

    def list_messages() -> list[str]:
        found = control_plane.get("events", "--field-selector=involvedObject.name=shared")["items"]
        return [event["message"] for event in found]

    control_plane.wait_for(lambda: any("ReadWriteMany" in message for message in list_messages()))
    control_plane.kubectl("delete", "pod/sharing", "pvc/shared")
