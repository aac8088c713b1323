# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightkube.core.exceptions import ApiError
from lightkube.models.meta_v1 import Status
from lightkube.resources.coordination_v1 import Lease

from volant.errors import Conflict
from volant.kubernetes.node import HostFacts, make_node, make_node_status, read_host, register

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


class Others:
    """A cluster that has a node of the name, of this machine-id, whose Lease was renewed so long ago."""

    def __init__(self, machine: str, seconds: float) -> None:
        self.client = self
        self.taken = False
        self._machine = machine
        self._renewed = datetime.now(UTC) - timedelta(seconds=seconds)

    async def create(self, made: object) -> None:
        raise ApiError(status=Status(code=409, message="there is one"))

    async def get(self, kind: Any, name: str, namespace: str = "") -> Any:
        if kind is Lease:
            return Lease.from_dict({"spec": {"renewTime": self._renewed.isoformat()}})
        return SimpleNamespace(status=SimpleNamespace(nodeInfo=SimpleNamespace(machineID=self._machine)))

    async def patch(self, *_: object, **__: object) -> None:
        self.taken = True


@pytest.mark.parametrize(
    ("machine", "seconds", "is_taken"),
    [("another", 5, False), ("another", 60, True), ("own", 5, True), ("", 5, True)],
    ids=["another host is it", "another was it", "itself a moment ago", "nobody knows who"],
)
async def test_a_node_that_is_another_hosts_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, machine: str, seconds: float, is_taken: bool
) -> None:
    monkeypatch.setattr("volant.kubernetes.node._read", lambda path: "own")
    cluster = Others(machine, seconds)
    if is_taken:
        await register(cast("Any", cluster), FACTS, "0.1.0")
    else:
        with pytest.raises(Conflict, match="another host is"):
            await register(cast("Any", cluster), FACTS, "0.1.0")
    assert cluster.taken is is_taken
