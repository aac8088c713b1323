# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from support.fake_cluster import FakeDaemon, make_vm
from volant.kubernetes.node_stats import PodUse, make_resource_metrics, make_summary, measure, read_host_use


@pytest.mark.asyncio
async def test_pods_are_measured_and_those_that_are_gone_left_out() -> None:
    daemon = FakeDaemon()
    daemon.vms["a"] = make_vm(name="a")
    wanted = [(name, PodUse("shop", name, f"uid-{name}", "web", 0, 0)) for name in ("a", "b")]
    uses = await measure(cast("Any", daemon), wanted)
    assert uses == [PodUse("shop", "a", "uid-a", "web", 1.5, 1 << 20)]
    summary = make_summary("host-1", uses, 9.0, 1 << 30)
    assert summary["pods"][0]["containers"][0]["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    assert summary["node"]["memory"]["workingSetBytes"] == 1 << 30
    text = make_resource_metrics(uses, 9.0, 1 << 30).decode()
    assert 'container_cpu_usage_seconds_total{container="web",namespace="shop",pod="a"} 1.5' in text
    assert 'pod_memory_working_set_bytes{namespace="shop",pod="a"} 1.048576e+06' in text


def test_the_host_uses_something() -> None:
    seconds, memory_bytes = read_host_use()
    assert seconds > 0
    assert memory_bytes > 0
