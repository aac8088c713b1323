# SPDX-License-Identifier: Apache-2.0
"""What `kubectl top` and autoscalers ask a node for: /stats/summary and /metrics/resource (measures as in KEP-2371)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from volant.client import AsyncClient
from volant.errors import VolantError
from volant.kubernetes.pods import NODE_LABEL


@dataclass(frozen=True, slots=True)
class PodUse:
    """What one pod's VM has used since it was started, as its host sees it. `started_at`: seconds since 1970."""

    namespace: str
    name: str
    uid: str
    container: str
    cpu_seconds: float = 0
    memory_bytes: int = 0
    started_at: float = 0


async def measure(client: AsyncClient, node: str, pods: Mapping[str, PodUse]) -> list[PodUse]:
    """The use of each VM that runs, by name. No guest is asked: one that hangs must not keep the others' waiting."""
    vms = {vm["name"]: vm for vm in await client.list_vms(label=[f"{NODE_LABEL}={node}"])}

    async def one(name: str, pod: PodUse) -> PodUse | None:
        vm = vms.get(name)
        if vm is None or vm["status"] != "running" or not vm["started_at"]:
            return None
        try:
            told = await client.get_vm_stats(name, guest=False)
        except (VolantError, OSError):  # it is gone meanwhile
            return None
        return replace(
            pod,
            cpu_seconds=told["host_cpu_seconds"],
            memory_bytes=told["host_memory_bytes"],
            started_at=datetime.fromisoformat(vm["started_at"]).timestamp(),
        )

    found = await asyncio.gather(*(one(name, pod) for name, pod in pods.items()))
    return [use for use in found if use is not None]


def make_summary(
    node: str, uses: list[PodUse], host_cpu_seconds: float, host_memory_bytes: int
) -> dict[str, Any]:
    now = _format(time.time())

    def tell(cpu_seconds: float, memory_bytes: int) -> dict[str, Any]:
        return {
            "cpu": {"time": now, "usageCoreNanoSeconds": int(cpu_seconds * 1e9)},
            "memory": {"time": now, "workingSetBytes": memory_bytes, "usageBytes": memory_bytes},
        }

    pods = []
    for use in uses:
        told = {"startTime": _format(use.started_at), **tell(use.cpu_seconds, use.memory_bytes)}
        reference = {"name": use.name, "namespace": use.namespace, "uid": use.uid}
        pods.append({"podRef": reference, "containers": [{"name": use.container, **told}], **told})
    return {"node": {"nodeName": node, **tell(host_cpu_seconds, host_memory_bytes)}, "pods": pods}


def _format(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_resource_metrics(uses: list[PodUse], host_cpu_seconds: float, host_memory_bytes: int) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    at = time.time()

    class Once(Collector):
        def collect(self) -> list[Metric]:
            node_cpu = CounterMetricFamily("node_cpu_usage_seconds", "The node's processor time.")
            node_cpu.add_metric([], host_cpu_seconds, timestamp=at)
            node_memory = GaugeMetricFamily("node_memory_working_set_bytes", "The node's memory in use.")
            node_memory.add_metric([], host_memory_bytes, timestamp=at)
            named = ["container", "pod", "namespace"]
            cpu = CounterMetricFamily(
                "container_cpu_usage_seconds", "A container's processor time.", labels=named
            )
            memory = GaugeMetricFamily(
                "container_memory_working_set_bytes", "A container's memory.", labels=named
            )
            pod_cpu = CounterMetricFamily(
                "pod_cpu_usage_seconds", "A pod's processor time.", labels=named[1:]
            )
            pod_memory = GaugeMetricFamily(
                "pod_memory_working_set_bytes", "A pod's memory.", labels=named[1:]
            )
            started = GaugeMetricFamily(
                "container_start_time_seconds", "When a container was started.", labels=named
            )
            for use in uses:
                labels = [use.container, use.name, use.namespace]
                cpu.add_metric(labels, use.cpu_seconds, timestamp=at)
                memory.add_metric(labels, use.memory_bytes, timestamp=at)
                started.add_metric(labels, use.started_at, timestamp=at)
                pod_cpu.add_metric(labels[1:], use.cpu_seconds, timestamp=at)
                pod_memory.add_metric(labels[1:], use.memory_bytes, timestamp=at)
            error = GaugeMetricFamily(
                "resource_scrape_error", "1 where something could not be measured.", value=0
            )
            return [node_cpu, node_memory, cpu, memory, started, pod_cpu, pod_memory, error]

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)


def read_host_use() -> tuple[float, int]:
    """Processor seconds since the host's start, and bytes of memory in use."""
    import os
    from pathlib import Path

    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return busy / os.sysconf("SC_CLK_TCK"), total - available
