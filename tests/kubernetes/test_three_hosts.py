# SPDX-License-Identifier: Apache-2.0
"""A Deployment on three hosts: placed, reached as a Service, updated, drained, served without a host."""

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
from support.host_network import HostNetwork
from support.node_agent import NODE, Agent
from support.pods import OFTEN, find_container, give_up_soon, make_pod_spec, wait_ready
from volant.kubernetes.persistent_volumes import HOSTNAME
from volant.kubernetes.worker import SELF_FENCE

SECOND, THIRD = "host-2", "host-3"
PATIENCE_SECONDS = 400


def make_spec() -> dict[str, Any]:
    container = {"readinessProbe": {"httpGet": {"port": "http"}, **OFTEN}}
    return make_pod_spec(container=container, runtimeClassName="volant", nodeSelector={}, tolerations=[])


def make_deployment(name: str, replicas: int, spec: dict[str, Any], noted: dict[str, str]) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels, "annotations": noted}, "spec": spec}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2, "maxSurge": 0}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels}, "strategy": rolling, "template": template,
        },
    }  # fmt: skip


def make_shop() -> dict[str, Any]:
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "shop"}},
    }  # fmt: skip
    return make_deployment("shop", 3, give_up_soon(make_spec()) | {"topologySpreadConstraints": [spread]}, {})


def make_fenced() -> str:
    """Two that are stopped where the cluster is not reached: one is made elsewhere then, the other stays the host's."""
    noted = {SELF_FENCE: "true"}
    here = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [THIRD]}]}
    prefers = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": here}]}
    moves = make_deployment(
        "moves", 1, give_up_soon(make_spec()) | {"affinity": {"nodeAffinity": prefers}}, noted
    )
    stays = make_spec() | {"nodeSelector": {HOSTNAME: THIRD}, "tolerations": [{"operator": "Exists"}]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stays", "annotations": noted},
        "spec": stays,
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [moves, pod]})


def make_objects() -> str:
    selector = {"app": "shop"}
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"selector": selector, "clusterIP": "10.96.0.80", "ports": [{"port": 8080, "targetPort": "http"}]},
    }  # fmt: skip
    budget = {
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shop"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": selector}},
    }  # fmt: skip
    items = [make_shop(), service, budget]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Shop:
    """A Deployment as the cluster sees it."""

    def __init__(self, control_plane: ControlPlane, name: str = "shop") -> None:
        self._control_plane = control_plane
        self._name = name

    def list_pods(self) -> list[dict[str, Any]]:
        """Those that are not on their way out."""
        found = self._control_plane.get("pods", "-l", f"app={self._name}")["items"]
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


def test_two_more_hosts_join(
    control_plane: ControlPlane, agent: Agent, hosts: list[Host], networks: list[HostNetwork], plugin: Path
) -> None:
    for name, one in ((SECOND, hosts[1]), (THIRD, hosts[2])):
        one.volar("plugins", "install", str(plugin))
        joined = one.volar("cluster", "join", "--kubeconfig", str(control_plane.kubeconfig), "--node", name)
        assert f"node {name} is ready" in joined.stdout
    assert "https://10.88.0.1" in hosts[1].volar("cluster", "status").stdout
    for name, network in zip((NODE, SECOND, THIRD), networks, strict=True):
        network.route(
            wait_until("a range", lambda name=name: control_plane.get("node", name)["spec"].get("podCIDR"))
        )
    # The template of the documentation says nothing that this version of Kubernetes does not know.
    template = ROOT / "examples" / "kubernetes"
    control_plane.kubectl("apply", "-k", str(template), "--dry-run=server", "--validate=strict")
    key = hosts[1].home / "kubernetes" / "node.kubeconfig"
    forbidden = control_plane.kubectl("get", "secrets", "-A", f"--kubeconfig={key}", check=False)
    assert "Forbidden" in forbidden.stderr
    other = control_plane.kubectl("label", "node", NODE, "a=b", f"--kubeconfig={key}", check=False)
    assert "only its own Node object" in other.stderr


def test_pods_are_spread_and_a_service_reaches_them(
    control_plane: ControlPlane, shop: Shop, proxy: None
) -> None:
    for node in (NODE, SECOND, THIRD):
        wait_until_open(control_plane, node)
    control_plane.kubectl("apply", "-f", "-", stdin=make_objects())
    shop.wait_for_nodes(NODE, SECOND, THIRD)
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
    shop.wait_for_nodes(NODE, SECOND, THIRD)
    assert not before & {pod["metadata"]["uid"] for pod in shop.list_pods()}


def test_a_lost_host_is_replaced_and_comes_back(
    control_plane: ControlPlane, shop: Shop, hosts: list[Host], proxy: None
) -> None:
    second = hosts[1]
    for pid in second.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    control_plane.wait_for(lambda: SECOND not in shop.list_nodes(), PATIENCE_SECONDS)
    control_plane.wait_for(lambda: len(shop.list_nodes()) == 3, PATIENCE_SECONDS)
    assert read_service() == PAGE
    # It starts the VMs that it had, and is told that their pods are others' now.
    second.volar("vms", "list")
    control_plane.kubectl("wait", "--for=condition=Ready", f"node/{SECOND}", "--timeout=200s", timeout=220)
    wait_until("its VMs are gone", lambda: list_vms(second) == {}, 200)


def list_vms(host: Host) -> dict[str, dict[str, Any]]:
    """VMs by the label of their pods."""
    found = json.loads(host.volar("vms", "list", "-o", "json").stdout)
    return {vm["labels"]["volant.kubernetes.pod"].removeprefix("default/"): vm for vm in found}


def count_starts(host: Host, vm: str) -> int:
    events = host.volar("events", "vms", "-o", "json").stdout.splitlines()
    return sum((one["vm"], one["kind"]) == (vm, "started") for one in map(json.loads, events))


def test_a_host_that_is_cut_off_runs_on_and_stops_what_asked_for_it(
    control_plane: ControlPlane, shop: Shop, hosts: list[Host], networks: list[HostNetwork]
) -> None:
    third, moves = hosts[2], Shop(control_plane, "moves")
    wait_until_open(control_plane, SECOND)
    control_plane.kubectl("apply", "-f", "-", stdin=make_fenced())
    moves.wait_for_nodes(THIRD)
    wait_ready(control_plane, "stays")
    before = list_vms(third)
    (fenced,) = (vm for pod, vm in before.items() if pod.startswith("moves"))
    (served, *_) = (pod for pod in shop.list_pods() if pod["spec"]["nodeName"] == THIRD)

    networks[2].cut()
    # Kubernetes has both made elsewhere, with this host's VMs still up: so it is on every node.
    control_plane.wait_for(lambda: THIRD not in shop.list_nodes(), PATIENCE_SECONDS)
    control_plane.wait_for(lambda: len(shop.list_nodes()) == 3, PATIENCE_SECONDS)
    control_plane.wait_for(lambda: moves.list_nodes() not in ([], [THIRD]), PATIENCE_SECONDS)
    wait_until(
        "what asked for it is stopped",
        lambda: all(list_vms(third)[pod]["status"] == "stopped" for pod in (find_pod(fenced), "stays")),
        PATIENCE_SECONDS,
    )
    assert list_vms(third)[served["metadata"]["name"]]["status"] == "running"
    page = third.run("busybox", "wget", "-q", "-O", "-", f"http://{served['status']['podIP']}/")
    assert page.stdout == PAGE

    networks[2].heal()
    wait_until("only its own is left", lambda: set(list_vms(third)) == {"stays"}, PATIENCE_SECONDS)
    control_plane.wait_for(lambda: list_vms(third)["stays"]["status"] == "running", PATIENCE_SECONDS)
    assert list_vms(third)["stays"]["id"] == before["stays"]["id"]
    assert count_starts(third, fenced["name"]) == 1, "what runs elsewhere was not started again"
    assert count_starts(third, before["stays"]["name"]) == 2
    control_plane.kubectl("delete", "deployment,pod", "moves", "stays", "--ignore-not-found", "--wait=false")


def find_pod(vm: dict[str, Any]) -> str:
    return str(vm["labels"]["volant.kubernetes.pod"]).removeprefix("default/")


def test_a_budget_holds_a_drain_up(control_plane: ControlPlane, shop: Shop, hosts: list[Host]) -> None:
    second = hosts[1]
    if SECOND not in shop.list_nodes():
        # Spreading is a wish: have one of the pods there.
        control_plane.kubectl("cordon", NODE, THIRD)
        control_plane.kubectl("delete", "pod", "--wait=false", shop.list_pods()[0]["metadata"]["name"])
        control_plane.wait_for(lambda: SECOND in shop.list_nodes(), PATIENCE_SECONDS)
        control_plane.kubectl("uncordon", NODE, THIRD)
    control_plane.wait_for(lambda: len(shop.list_nodes()) == 3, PATIENCE_SECONDS)
    before = shop.list_nodes()
    held = control_plane.kubectl("drain", SECOND, "--timeout=6s", check=False)
    assert "disruption budget" in held.stderr
    assert shop.list_nodes() == before
    refused = second.volar(
        "cluster", "leave", "--kubeconfig", str(control_plane.kubeconfig), "--node", SECOND, check=False
    )
    assert "pods are on node" in refused.stderr
    control_plane.kubectl("patch", "pdb", "shop", "--patch", '{"spec": {"minAvailable": 1}}')
    control_plane.kubectl("drain", SECOND, "--timeout=200s", timeout=220)
    assert SECOND not in shop.list_nodes()
    second.volar("cluster", "leave", "--kubeconfig", str(control_plane.kubeconfig), "--node", SECOND)
    assert control_plane.kubectl("get", "node", SECOND, check=False).returncode
    assert "not a node of a cluster" in second.volar("cluster", "status", check=False).stderr


def test_what_is_deleted_leaves_nothing(control_plane: ControlPlane, hosts: list[Host]) -> None:
    control_plane.kubectl("delete", "deployment,service,pdb", "shop")
    for one in hosts:
        control_plane.wait_for(lambda one=one: list_vms(one) == {})
