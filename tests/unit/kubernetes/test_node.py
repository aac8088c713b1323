# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from volant.kubernetes.node import HostFacts, make_node, make_node_status, read_host

FACTS = HostFacts("host-1", "192.0.2.1", 10250, 4, 8192, 100_000, 819)


def test_a_node_is_tainted_labelled_and_keeps_a_reserve() -> None:
    node = make_node(FACTS).to_dict()
    assert node["spec"]["taints"] == [
        {"key": "virtual-kubelet.io/provider", "value": "volant", "effect": "NoSchedule"}
    ]
    assert node["metadata"]["labels"]["type"] == "virtual-kubelet"
    status = make_node_status(FACTS, "amd64", "0.1.0").to_dict()
    assert (status["capacity"]["memory"], status["allocatable"]["memory"]) == ("8192Mi", "7373Mi")
    assert {one["type"]: one["status"] for one in status["conditions"]}["Ready"] == "True"
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert status["declaredFeatures"] == ["ExtendWebSocketsToKubelet"]


def test_the_host_is_measured(tmp_path: Path) -> None:
    facts = read_host("h", "192.0.2.1", 1, tmp_path)
    assert facts.processors > 0
    assert 256 <= facts.reserve_memory_mib < facts.memory_mib
