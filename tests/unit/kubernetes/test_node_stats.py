# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from support.fake_cluster import FakeDaemon, make_vm
from volant.kubernetes.node_stats import PodUse, make_resource_metrics, make_summary, measure, read_host_use
from volant.kubernetes.pods import NODE_LABEL


@pytest.mark.asyncio
async def test_pods_that_run_are_measured_and_others_left_out() -> None:
    daemon = FakeDaemon()
    labels = {NODE_LABEL: "host-1"}
    daemon.vms["a"] = make_vm(name="a", labels=labels)
    daemon.vms["c"] = make_vm(name="c", labels=labels, status="stopped")
    daemon.vms["d"] = make_vm(name="d")
    pods = {name: PodUse("shop", name, f"uid-{name}", "web") for name in "abcd"}
    uses = await measure(cast("Any", daemon), "host-1", pods)
    began = datetime(2026, 11, 27, 10, tzinfo=UTC).timestamp()
    assert uses == [PodUse("shop", "a", "uid-a", "web", 1.5, 1 << 20, began)]
    summary = make_summary("host-1", uses, 9.0, 1 << 30)
    (container,) = summary["pods"][0]["containers"]
    assert container["cpu"]["usageCoreNanoSeconds"] == 1_500_000_000
    assert container["startTime"] == "2026-11-27T10:00:00Z"
    assert summary["node"]["memory"]["workingSetBytes"] == 1 << 30
    text = make_resource_metrics(uses, 9.0, 1 << 30).decode()
    named = '{container="web",namespace="shop",pod="a"}'
    assert f"container_cpu_usage_seconds_total{named} 1.5" in text
    (started,) = re.findall(
        rf"^container_start_time_seconds{re.escape(named)} (\S+) \d+$", text, re.MULTILINE
    )
    assert float(started) == began
    assert 'pod_memory_working_set_bytes{namespace="shop",pod="a"} 1.048576e+06' in text


def test_the_host_uses_something() -> None:
    seconds, memory_bytes = read_host_use()
    assert seconds > 0
    assert memory_bytes > 0
