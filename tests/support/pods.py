# SPDX-License-Identifier: Apache-2.0
"""Pods as tests write them: of the plugin `web`, for a node of ours."""

from __future__ import annotations

import json
from typing import Any

from support.control_plane import ControlPlane
from support.node_agent import NODE

# What is asked for each second must not count a busy machine as a failure.
OFTEN = {"periodSeconds": 1, "timeoutSeconds": 30}


def make_pod_spec(**changes: Any) -> dict[str, Any]:
    container = {
        "name": "web", "image": "web:1.0.0", "ports": [{"name": "http", "containerPort": 80}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}, **changes.pop("container", {}),
    }  # fmt: skip
    tolerations = [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}]
    lost = [
        {
            "key": f"node.kubernetes.io/{kind}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 5,
        }
        for kind in ("not-ready", "unreachable")
    ]
    return {
        "containers": [container], "nodeSelector": {"type": "virtual-kubelet"}, "tolerations": [*tolerations, *lost],
        "terminationGracePeriodSeconds": 5, **changes,
    }  # fmt: skip


def give_up_soon(spec: dict[str, Any]) -> dict[str, Any]:
    """The pod is made elsewhere 2 s after its node has been given up, and not after the usual five minutes."""
    soon = [
        {
            "key": f"node.kubernetes.io/{kind}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 2,
        }
        for kind in ("not-ready", "unreachable")
    ]
    return spec | {"tolerations": [*spec["tolerations"], *soon]}


def make_pod(name: str, **changes: Any) -> str:
    """On the first host, unless it is said otherwise."""
    spec = make_pod_spec(**{"nodeSelector": {"kubernetes.io/hostname": NODE}, **changes})
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def wait_ready(control_plane: ControlPlane, name: str, *, ready: bool = True) -> None:
    control_plane.kubectl(
        "wait", f"--for=condition=Ready={ready}", f"pod/{name}", "--timeout=400s", timeout=420
    )


def find_container(control_plane: ControlPlane, name: str) -> dict[str, Any]:
    found: dict[str, Any] = control_plane.get("pod", name)["status"]["containerStatuses"][0]
    return found
