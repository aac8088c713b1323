# SPDX-License-Identifier: Apache-2.0
"""Pods of a real cluster as VMs of this host: scheduled, told of, reached, ended, and never doubled."""

from __future__ import annotations

import json
from typing import Any

from support.busybox_web import PAGE
from support.control_plane import ControlPlane
from support.host import Host
from support.node_agent import NODE, Agent


def make_pod(name: str, **changes: Any) -> str:
    container = {
        "name": "web", "image": "web:1.0.0", "ports": [{"containerPort": 80}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}, **changes.pop("container", {}),
    }  # fmt: skip
    spec = {
        "containers": [container], "nodeSelector": {"type": "virtual-kubelet"},
        "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}], **changes,
    }  # fmt: skip
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def wait_ready(control_plane: ControlPlane, name: str) -> None:
    control_plane.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=400s", timeout=420)


def test_a_host_becomes_a_node(control_plane: ControlPlane, agent: Agent) -> None:
    control_plane.wait_for(lambda: control_plane.kubectl("get", "node", NODE, check=False).returncode == 0)
    control_plane.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s")
    node = control_plane.get("node", NODE)
    assert node["spec"]["taints"][0]["key"] == "virtual-kubelet.io/provider"
    assert node["status"]["capacity"]["pods"] == "110"
    lease = control_plane.get("lease", NODE, "-n", "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == NODE

    # Whoever runs the cluster lets the node serve with a certificate of the cluster's own.
    def list_requests() -> list[str]:
        return control_plane.kubectl("get", "csr", "-o", "name").stdout.split()

    control_plane.wait_for(list_requests)
    control_plane.kubectl("certificate", "approve", *list_requests())


def test_a_pod_is_a_vm(control_plane: ControlPlane, agent: Agent, host: Host) -> None:
    control_plane.kubectl("create", "configmap", "settings", "--from-literal=greeting=hello")
    container = {
        "env": [
            {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "BOTH", "value": "$(GREETING) from $(POD)"},
        ],
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
    }
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    control_plane.kubectl("apply", "-f", "-", stdin=make_pod("web", container=container, volumes=volumes))
    wait_ready(control_plane, "web")
    pod = control_plane.get("pod", "web")
    assert pod["status"]["phase"] == "Running"
    (vm,) = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    assert vm["labels"]["volant.kubernetes.pod"] == "default/web"
    said = control_plane.kubectl(
        "exec", "web", "--", "sh", "-c", "echo $BOTH; cat /settings/greeting; wget -qO- 127.0.0.1"
    )
    assert said.stdout == f"hello from web\nhello{PAGE}"
    failed = control_plane.kubectl("exec", "web", "--", "sh", "-c", "echo no >&2; exit 7", check=False)
    assert failed.returncode == 7
    assert "no" in failed.stderr
    copied = control_plane.kubectl("exec", "-i", "web", "--", "cat", stdin="given\n")
    assert copied.stdout == "given\n"
    token = control_plane.kubectl(
        "exec", "web", "--", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )
    assert token.stdout.count(".") == 2


def test_killed_at_any_time_it_finds_its_pods_again(
    control_plane: ControlPlane, agent: Agent, host: Host
) -> None:
    before = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    agent.kill()
    control_plane.kubectl("apply", "-f", "-", stdin=make_pod("late"))
    agent.start()
    wait_ready(control_plane, "late")
    after = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    assert {vm["id"] for vm in before} < {vm["id"] for vm in after}
    assert len(after) == len(before) + 1


def test_what_no_vm_can_be_is_refused_by_name(control_plane: ControlPlane, agent: Agent) -> None:
    volumes = [{"name": "host", "hostPath": {"path": "/"}}]
    control_plane.kubectl("apply", "-f", "-", stdin=make_pod("outside", volumes=volumes))
    control_plane.wait_for(lambda: control_plane.get("pod", "outside")["status"].get("phase") == "Failed")
    status = control_plane.get("pod", "outside")["status"]
    assert status["reason"] == "UnsupportedVolume"
    assert "host" in status["message"]


def test_a_job_ends_with_its_exit_code(control_plane: ControlPlane, agent: Agent) -> None:
    container = {"command": ["/bin/busybox", "sh", "-c", "echo done it; exit 3"], "ports": []}
    control_plane.kubectl(
        "apply", "-f", "-", stdin=make_pod("task", container=container, restartPolicy="Never")
    )
    control_plane.wait_for(lambda: control_plane.get("pod", "task")["status"].get("phase") == "Failed", 400)
    (status,) = control_plane.get("pod", "task")["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 3
    assert "done it" in control_plane.kubectl("logs", "task").stdout


def test_deleted_pods_leave_nothing(control_plane: ControlPlane, agent: Agent, host: Host) -> None:
    control_plane.kubectl("delete", "pod", "--all", "--wait=true", "--timeout=300s", timeout=320)
    control_plane.wait_for(lambda: json.loads(host.volar("vms", "list", "-o", "json").stdout) == [])
