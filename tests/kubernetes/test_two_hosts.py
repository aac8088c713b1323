# SPDX-License-Identifier: Apache-2.0
"""A Deployment on two hosts: placed, reached as a Service, drained, updated, and served again after a host is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.busybox_web import PAGE
from support.control_plane import ControlPlane
from support.host import ROOT, Host, fetch, wait_until
from support.node_agent import NODE, Agent
from support.pods import OFTEN, find_container, give_up_soon, make_pod_spec

SECOND = "host-2"
PATIENCE_SECONDS = 400


def make_deployment() -> dict[str, Any]:
    container = {"readinessProbe": {"httpGet": {"port": "http"}, **OFTEN}}
    spec = give_up_soon(
        make_pod_spec(container=container, runtimeClassName="volant", nodeSelector={}, tolerations=[])
    )
    labels = {"app": "shop"}
    spec["topologySpreadConstraints"] = [
        {
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels},
        }
    ]  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": spec}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "strategy": rolling, "template": template},
    }  # fmt: skip


def make_objects() -> str:
    selector = {"app": "shop"}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"selector": selector, "clusterIP": "10.96.0.80", "ports": [{"port": 8080, "targetPort": "http"}]},
    }  # fmt: skip
    budget = {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shop"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": selector}},
    }  # fmt: skip
    items = [make_deployment(), service, budget]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Shop:
    """The Deployment as the cluster sees it."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane

    def list_pods(self) -> list[dict[str, Any]]:
        """Those that are not on their way out."""
        found = self._control_plane.get("pods", "-l", "app=shop")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def list_nodes(self) -> list[str]:
        """Where pods are ready, one entry a pod."""
        return sorted(
            pod["spec"]["nodeName"]
            for pod in self.list_pods()
            for one in pod["status"].get("conditions", [])
            if (one["type"], one["status"]) == ("Ready", "True")
        )

    def wait_for_nodes(self, *nodes: str) -> None:
        self._control_plane.wait_for(lambda: self.list_nodes() == sorted(nodes), PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def shop(control_plane: ControlPlane) -> Shop:
    return Shop(control_plane)


@pytest.fixture(scope="module")
def proxy(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """kube-proxy, as it makes Services of any cluster, on the hosts' network."""
    log = tmp_path_factory.mktemp("proxy") / "log"
    command = [
        str(control_plane.programs / "kube-proxy"), f"--kubeconfig={control_plane.kubeconfig}",
        "--proxy-mode=nftables", f"--hostname-override={NODE}", "--cluster-cidr=10.99.0.0/16",
        "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
    ]  # fmt: skip
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_until_open(control_plane: ControlPlane, node: str) -> None:
    """A node that has become ready keeps pods away for another moment: these would go where there is one already."""

    def is_open() -> bool:
        taints = {taint["key"] for taint in control_plane.get("node", node)["spec"].get("taints", [])}
        return taints == {"virtual-kubelet.io/provider"}

    control_plane.wait_for(is_open)


def test_a_second_host_joins(
    control_plane: ControlPlane, agent: Agent, second_host: Host, plugin: Path
) -> None:
    second_host.volar("plugins", "install", str(plugin))
    joined = second_host.volar(
        "cluster", "join", "--kubeconfig", str(control_plane.kubeconfig), "--node", SECOND
    )
    assert f"node {SECOND} is ready" in joined.stdout
    assert "https://10.88.0.1" in second_host.volar("cluster", "status").stdout
    # The template of the documentation says nothing that this version of Kubernetes does not know.
    template = ROOT / "examples" / "kubernetes"
    control_plane.kubectl("apply", "-k", str(template), "--dry-run=server", "--validate=strict")
    key = second_host.home / "kubernetes" / "node.kubeconfig"
    forbidden = control_plane.kubectl("get", "secrets", "-A", f"--kubeconfig={key}", check=False)
    assert "Forbidden" in forbidden.stderr
    other = control_plane.kubectl("label", "node", NODE, "a=b", f"--kubeconfig={key}", check=False)
    assert "only its own Node object" in other.stderr


def test_pods_are_spread_and_a_service_reaches_them(
    control_plane: ControlPlane, shop: Shop, proxy: None
) -> None:
    for node in (NODE, SECOND):
        wait_until_open(control_plane, node)
    control_plane.kubectl("apply", "-f", "-", stdin=make_objects())
    shop.wait_for_nodes(NODE, SECOND)
    assert read_service() == PAGE
    slices = control_plane.get("endpointslices", "-l", "kubernetes.io/service-name=shop")["items"]
    addresses = {address for one in slices for end in one["endpoints"] for address in end["addresses"]}
    assert addresses == {pod["status"]["podIP"] for pod in shop.list_pods()}


def read_service() -> str:
    """The page, at the Service's address."""

    def ask() -> str:
        with suppress(OSError):
            return fetch("http://10.96.0.80:8080/")
        return ""

    return str(wait_until("the Service", ask, PATIENCE_SECONDS))


def test_a_vm_that_is_killed_comes_again(control_plane: ControlPlane, shop: Shop, host: Host) -> None:
    (pod,) = (one for one in shop.list_pods() if one["spec"]["nodeName"] == NODE)
    name = pod["metadata"]["name"]
    (vm,) = json.loads(
        host.volar("vms", "list", "-o", "json", "--label", f"volant.kubernetes.pod=default/{name}").stdout
    )
    before = find_container(control_plane, name)["restartCount"]
    os.kill(vm["hypervisor"]["pid"], signal.SIGKILL)

    def is_back() -> bool:
        status = find_container(control_plane, name)
        return bool(status["restartCount"] == before + 1 and status["ready"])

    control_plane.wait_for(is_back, PATIENCE_SECONDS)


def test_an_update_is_rolled(control_plane: ControlPlane, shop: Shop) -> None:
    before = {pod["metadata"]["uid"] for pod in shop.list_pods()}
    control_plane.kubectl("set", "env", "deployment/shop", "VERSION=2")
    control_plane.kubectl(
        "rollout", "status", "deployment/shop", f"--timeout={PATIENCE_SECONDS}s", timeout=PATIENCE_SECONDS
    )
    shop.wait_for_nodes(NODE, SECOND)
    assert not before & {pod["metadata"]["uid"] for pod in shop.list_pods()}


def test_a_lost_host_is_replaced_and_comes_back(
    control_plane: ControlPlane, shop: Shop, second_host: Host, proxy: None
) -> None:
    for pid in second_host.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shop.wait_for_nodes(NODE, NODE)
    assert read_service() == PAGE
    # It starts the VMs that it had, and is told that their pods are others' now.
    second_host.volar("vms", "list")
    control_plane.kubectl("wait", "--for=condition=Ready", f"node/{SECOND}", "--timeout=200s", timeout=220)
    wait_until(
        "its VMs are gone",
        lambda: json.loads(second_host.volar("vms", "list", "-o", "json").stdout) == [],
        200,
    )


def test_a_budget_holds_a_drain_up(control_plane: ControlPlane, shop: Shop, second_host: Host) -> None:
    wait_until_open(control_plane, SECOND)
    control_plane.kubectl("delete", "pod", "--wait=false", shop.list_pods()[0]["metadata"]["name"])
    shop.wait_for_nodes(NODE, SECOND)
    held = control_plane.kubectl("drain", SECOND, "--timeout=6s", check=False)
    assert "disruption budget" in held.stderr
    assert shop.list_nodes() == [NODE, SECOND]
    refused = second_host.volar(
        "cluster", "leave", "--kubeconfig", str(control_plane.kubeconfig), "--node", SECOND, check=False
    )
    assert "1 pods are on node" in refused.stderr
    control_plane.kubectl("patch", "pdb", "shop", "--patch", '{"spec": {"minAvailable": 1}}')
    control_plane.kubectl("drain", SECOND, "--timeout=200s", timeout=220)
    shop.wait_for_nodes(NODE, NODE)
    second_host.volar("cluster", "leave", "--kubeconfig", str(control_plane.kubeconfig), "--node", SECOND)
    assert control_plane.kubectl("get", "node", SECOND, check=False).returncode
    assert "is no node" in second_host.volar("cluster", "status", check=False).stderr


def test_what_is_deleted_leaves_nothing(control_plane: ControlPlane, host: Host, second_host: Host) -> None:
    control_plane.kubectl("delete", "deployment,service,pdb", "shop")
    for one in (host, second_host):
        control_plane.wait_for(
            lambda one=one: json.loads(one.volar("vms", "list", "-o", "json").stdout) == []
        )
