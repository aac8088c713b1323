# SPDX-License-Identifier: Apache-2.0
"""A real metrics-server beside a test's control plane, with the rights that its own manifest gives it and no others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.control_plane import WITH_US, ControlPlane, build_metrics_server

NAME, NAMESPACE, PORT = "metrics-server", "kube-system", 4443
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
RBAC = "rbac.authorization.k8s.io"
# Longer than it waits for a node (10 s), which it insists on.
RESOLUTION = "15s"


@contextmanager
def run_metrics_server(control_plane: ControlPlane) -> Iterator[None]:
    """It answers for its group of the API, at the control plane's address, until the test is over."""
    program = build_metrics_server()
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(make_objects(control_plane))})
    control_plane.kubectl("apply", "-f", "-", stdin=items)
    hosts = [f"{NAME}.{NAMESPACE}.svc"]
    certificate, key = control_plane.authority.issue("metrics-serving", NAME, hosts=hosts)
    kubeconfig = control_plane.make_kubeconfig(NAME, NAME, [])
    command = [
        *WITH_US, str(program), f"--secure-port={PORT}", f"--bind-address={control_plane.address}",
        f"--kubeconfig={kubeconfig}", f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}", f"--metric-resolution={RESOLUTION}",
        f"--kubelet-certificate-authority={control_plane.authority.certificate}",
        "--kubelet-preferred-address-types=InternalIP", "--kubelet-use-node-status-port",
        f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
    ]  # fmt: skip
    with (control_plane.folder / f"{NAME}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        # A group whose server is gone keeps namespaces from ending.
        control_plane.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")


def make_objects(control_plane: ControlPlane) -> Iterator[dict[str, Any]]:
    metadata = {"name": NAME, "namespace": NAMESPACE}
    user = {"kind": "User", "name": NAME, "apiGroup": RBAC}
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"system:{NAME}"},
        "rules": rules,
    }
    for role in (f"system:{NAME}", "system:auth-delegator"):
        yield {
            "apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"{NAME}:{role}"},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": [user],
        }  # fmt: skip
    reader = {"apiGroup": RBAC, "kind": "Role", "name": "extension-apiserver-authentication-reader"}
    yield {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": reader,
        "subjects": [user],
    }
    ports = [{"name": "https", "port": 443, "targetPort": PORT, "protocol": "TCP"}]
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
    yield {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": NAME}},
        "endpoints": [{"addresses": [control_plane.address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
    }  # fmt: skip
    bundle = json.loads(control_plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    yield {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": f"{VERSION}.{GROUP}"},
        "spec": {
            "group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": NAME, "namespace": NAMESPACE}, "caBundle": bundle["certificate-authority-data"],
        },
    }  # fmt: skip
