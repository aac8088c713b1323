# SPDX-License-Identifier: Apache-2.0
"""What pods' VMs use, through a real metrics-server: `kubectl top`, and an autoscaler that makes a second VM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.control_plane import ControlPlane
from support.host import Host
from support.metrics_server import run_metrics_server
from support.node_agent import NODE, Agent
from support.pods import make_pod_spec
from volant.kubernetes.persistent_volumes import HOSTNAME

PATIENCE_SECONDS = 400
LABELS = {"app": "busy"}


@pytest.fixture(scope="module")
def metrics(control_plane: ControlPlane, agent: Agent) -> Iterator[None]:
    with run_metrics_server(control_plane):
        yield


def make_busy() -> dict[str, Any]:
    """A Deployment of one VM that computes without end. An autoscaler looks at pods that are ready alone."""
    script = "/bin/busybox httpd -p 80 -h /www; while :; do :; done"
    container = {"command": ["/bin/busybox", "sh", "-c", script]}
    spec = make_pod_spec(container=container, nodeSelector={HOSTNAME: NODE})
    template = {"metadata": {"labels": LABELS}, "spec": spec}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"},
        "spec": {"replicas": 1, "selector": {"matchLabels": LABELS}, "template": template},
    }  # fmt: skip


def make_autoscaler() -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "busy"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "busy"},
            "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }  # fmt: skip


def read_top(control_plane: ControlPlane, *what: str) -> dict[str, tuple[int, int]]:
    """By name: thousandths of a processor, and MiB. Empty: it has not been measured yet."""
    said = control_plane.kubectl("top", *what, "--no-headers", check=False).stdout
    found = re.findall(r"^(\S+)\s+(\d+)m\s+(?:\d+%\s+)?(\d+)Mi\b", said, re.MULTILINE)
    return {name: (int(cpu), int(memory)) for name, cpu, memory in found}


def test_top_shows_a_vm_that_computes_and_an_autoscaler_makes_a_second(
    control_plane: ControlPlane, metrics: None, host: Host
) -> None:
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(make_busy()))
    control_plane.wait_for(lambda: read_top(control_plane, "pods", "-l", "app=busy"), PATIENCE_SECONDS)
    control_plane.wait_for(lambda: NODE in read_top(control_plane, "nodes"), PATIENCE_SECONDS)
    ((cpu, memory),) = read_top(control_plane, "pods", "-l", "app=busy").values()
    assert cpu > 100, "it computes without end"
    assert 32 < memory < 1024
    node_cpu, node_memory = read_top(control_plane, "nodes")[NODE]
    assert node_cpu > 100
    assert node_memory > memory

    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(make_autoscaler()))
    control_plane.wait_for(
        lambda: control_plane.get("deployment", "busy")["status"].get("readyReplicas") == 2, PATIENCE_SECONDS
    )
    names = [vm["name"] for vm in json.loads(host.volar("vms", "list", "-o", "json").stdout)]
    assert sum(name.startswith("default-busy-") for name in names) == 2
    (measured,) = control_plane.get("hpa", "busy")["status"]["currentMetrics"]
    assert measured["resource"]["current"]["averageUtilization"] > 50
    control_plane.kubectl("delete", "hpa/busy", "deployment/busy")
    control_plane.wait_for(lambda: "default-busy-" not in host.volar("vms", "list", "-o", "json").stdout)
