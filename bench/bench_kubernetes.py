# SPDX-License-Identifier: Apache-2.0
"""Pods of a real control plane as VMs: what Kubernetes adds, and how soon it serves again. As root, for a network.

Two hosts (agents and daemons with states of their own) in one network namespace; VMs are real, and of busybox' size.
The node is given up after 12 s without a Lease, and its pods 2 s later.

k8s-ready-overhead-s          pod made to Ready, less `volar vms create` of the same plugin to healthy
k8s-replace-s                 a pod's QEMU killed, to Ready again
k8s-failover-s                agent, daemon and VMs of a host killed, to Ready on the other
k8s-pods-per-node             how many of BENCH_KUBERNETES_PODS (50) pods of 128 MiB were ready on one node at a time
k8s-agent-rss-mib             memory of the node agent with them
k8s-idle-requests-per-minute  what the node asked the API server meanwhile, by its audit log
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import ratio

if TYPE_CHECKING:
    from support.control_plane import ControlPlane
    from support.host import Host
    from support.node_agent import Agent

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("BENCH_KUBERNETES_ROUNDS", "3"))
PODS = int(os.environ.get("BENCH_KUBERNETES_PODS", "50"))
GRACE_SECONDS, IDLE_SECONDS, PATIENCE_SECONDS = 12, 60.0, 900.0
ADDRESSES = ("10.88.0.1", "10.88.0.11", "10.88.0.12")


def main() -> None:
    # The control plane of the tests lives with them.
    sys.path.insert(0, str(ROOT / "tests"))
    with start_cluster() as (control_plane, hosts, agents):
        ratio("k8s-ready-overhead-s", measure_overhead(control_plane, hosts[0]))
        ratio("k8s-replace-s", measure_replacement(control_plane, hosts[0]))
        ratio("k8s-failover-s", measure_failover(control_plane, hosts[1], agents[1]))
        measure_many(control_plane, agents[0])


@contextmanager
def start_cluster() -> Iterator[tuple[ControlPlane, list[Host], list[Agent]]]:
    from support.busybox_web import make_web_plugin
    from support.control_plane import ControlPlane, build_programs
    from support.host import Host
    from support.node_agent import Agent
    from support.private_network import enter_private_network

    build_programs()
    with ExitStack() as stack:
        hosts = [Host(Path(tempfile.mkdtemp(prefix="volant-bench-"))) for _ in range(2)]
        for host in hosts:
            stack.callback(host.close)
            host.volar("setup", "kernel", timeout=300)
            host.volar("daemon", "stop", check=False)
        stack.enter_context(enter_private_network(*ADDRESSES))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="volant-bench-")))
        (folder / "cluster").mkdir()
        control_plane = ControlPlane(
            folder / "cluster", address=ADDRESSES[0], pod_range="10.99.0.0/16", grace_seconds=GRACE_SECONDS,
            audits=True,
        )  # fmt: skip
        stack.callback(control_plane.close)
        control_plane.start()
        plugin = make_web_plugin(folder, hosts[0], Path("/bin/busybox"))
        agents = []
        for number, host in enumerate(hosts, 1):
            host.volar("plugins", "install", str(plugin))
            agent = Agent(host, control_plane, 10250, node=f"host-{number}", address=ADDRESSES[number])
            agent.start()
            stack.callback(agent.kill)
            agents.append(agent)
        wait_for(lambda: all(is_ready(control_plane, "node", agent.node) for agent in agents))
        wait_for(lambda: len(list_requests(control_plane)) == len(agents))
        control_plane.kubectl("certificate", "approve", *list_requests(control_plane))
        yield control_plane, hosts, agents


def list_requests(control_plane: ControlPlane) -> list[str]:
    return control_plane.kubectl("get", "csr", "-o", "name").stdout.split()


def measure_overhead(control_plane: ControlPlane, host: Host) -> float:
    """Medians of both, one after the other in each round; the first, which makes templates, is left out."""
    plain, pods = [], []
    for _ in range(ROUNDS + 1):
        began = time.monotonic()
        host.volar(
            "vms", "create", "plain", "--plugin", "web:1.0.0", "--memory", "128", "--cpus", "1", timeout=600
        )
        plain.append(time.monotonic() - began)
        host.volar("vms", "delete", "plain", "--force")
        began = time.monotonic()
        make_pods(control_plane, "host-1", "round")
        wait_for(lambda: is_ready(control_plane, "pod", "round"))
        pods.append(time.monotonic() - began)
        control_plane.kubectl("delete", "pod", "round", timeout=300)
    # The command line costs time, too, which a pod does not pay: none at all is told as next to nothing.
    return max(0.01, statistics.median(pods[1:]) - statistics.median(plain[1:]))


def measure_replacement(control_plane: ControlPlane, host: Host) -> float:
    make_pods(control_plane, "host-1", "killed")
    wait_for(lambda: is_ready(control_plane, "pod", "killed"))
    seconds = []
    for _ in range(ROUNDS):
        (vm,) = json.loads(host.volar("vms", "list", "-o", "json").stdout)
        before = count_restarts(control_plane, "killed")
        began = time.monotonic()
        os.kill(vm["hypervisor"]["pid"], signal.SIGKILL)
        wait_for(partial(is_back, control_plane, "killed", before + 1))
        seconds.append(time.monotonic() - began)
    control_plane.kubectl("delete", "pod", "killed", timeout=300)
    return statistics.median(seconds)


def measure_failover(control_plane: ControlPlane, host: Host, agent: Agent) -> float:
    """Once: the host is lost for good."""
    from support.pods import give_up_soon, make_pod_spec

    spec = give_up_soon(make_pod_spec())
    prefers = {"weight": 1, "preference": {"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [agent.node]}
    ]}}  # fmt: skip
    spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [prefers]}}
    labels = {"app": "shop"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }  # fmt: skip
    control_plane.kubectl("apply", "-f", "-", stdin=json.dumps(deployment))

    def find_nodes() -> set[str]:
        pods = control_plane.get("pods", "-l", "app=shop")["items"]
        return {pod["spec"].get("nodeName", "") for pod in pods if has_condition(pod)}

    wait_for(lambda: find_nodes() == {agent.node})
    began = time.monotonic()
    agent.kill()
    for pid in host.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: find_nodes() - {agent.node} != set())
    seconds = time.monotonic() - began
    control_plane.kubectl("delete", "deployment", "shop")
    control_plane.kubectl("delete", "pods", "-l", "app=shop", "--force", "--grace-period=0", timeout=300)
    return seconds


def measure_many(control_plane: ControlPlane, agent: Agent) -> None:
    names = [f"small-{number}" for number in range(PODS)]
    make_pods(control_plane, agent.node, *names, memory="64Mi", cpu="1m")

    def count_ready() -> int:
        return sum(map(has_condition, control_plane.get("pods")["items"]))

    with suppress(TimeoutError):
        # Whoever asks takes processor time, too.
        wait_for(lambda: count_ready() >= PODS, pause_seconds=2)
    ratio("k8s-pods-per-node", count_ready(), 0)
    began = len(read_requests(control_plane, agent.node))
    time.sleep(IDLE_SECONDS)
    asked = len(read_requests(control_plane, agent.node)) - began
    ratio("k8s-agent-rss-mib", agent.read_memory_mib(), 0)
    ratio("k8s-idle-requests-per-minute", asked * 60 / IDLE_SECONDS, 0)


def make_pods(
    control_plane: ControlPlane, node: str, *names: str, memory: str = "128Mi", cpu: str = "100m"
) -> None:
    from support.pods import make_pod

    def make(name: str) -> Any:
        container = {"resources": {"requests": {"cpu": cpu, "memory": memory}}}
        return json.loads(make_pod(name, container=container, nodeSelector={"kubernetes.io/hostname": node}))

    items = [make(name) for name in names]
    control_plane.kubectl(
        "create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    )


def has_condition(found: dict[str, Any], kind: str = "Ready") -> bool:
    return any(
        (one["type"], one["status"]) == (kind, "True") for one in found["status"].get("conditions", [])
    )


def is_ready(control_plane: ControlPlane, kind: str, name: str) -> bool:
    done = control_plane.kubectl("get", kind, name, "-o", "json", check=False)
    return done.returncode == 0 and has_condition(json.loads(done.stdout))


def is_back(control_plane: ControlPlane, name: str, restarts: int) -> bool:
    return count_restarts(control_plane, name) == restarts and is_ready(control_plane, "pod", name)


def count_restarts(control_plane: ControlPlane, name: str) -> int:
    return int(control_plane.get("pod", name)["status"]["containerStatuses"][0]["restartCount"])


def read_requests(control_plane: ControlPlane, node: str) -> list[str]:
    """What the node has asked for, one URI each."""
    lines = [json.loads(line) for line in (control_plane.folder / "audit.log").read_text().splitlines()]
    return [line["requestURI"] for line in lines if line["user"]["username"] == f"system:node:{node}"]


def wait_for(condition: Callable[[], bool], pause_seconds: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster did not come to that")
        time.sleep(pause_seconds)
