# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from lightkube.resources.core_v1 import Pod

from support.fake_cluster import FakeCluster, FakeDaemon, make_pod, make_vm
from volant.kubernetes.agent import NodeAgent
from volant.kubernetes.node import HostFacts
from volant.kubernetes.pods import NODE_LABEL, UID_LABEL, name_vm
from volant.kubernetes.worker import SELF_FENCE

FACTS = HostFacts("host-1", "192.0.2.1", 10250, 4, 8192, 100_000, 819)


@pytest.mark.asyncio
async def test_a_list_begins_workers_and_ends_those_whose_pods_are_gone() -> None:
    daemon = FakeDaemon()
    daemon.client = None  # type: ignore[attr-defined]  # images ask it, and there are none
    agent = NodeAgent(cast("Any", FakeCluster()), cast("Any", daemon), FACTS)
    pod = make_pod()
    agent._compare([pod])
    assert agent.find_worker("shop", "web") is not None
    assert agent.find_worker("other", "web") is None
    (worker,) = agent.list_workers()
    agent._compare([])
    assert worker.is_orphan
    for task in agent._tasks:
        task.cancel()


@pytest.mark.asyncio
async def test_vms_of_pods_that_ended_meanwhile_are_deleted_and_others_are_left() -> None:
    daemon = FakeDaemon()
    daemon.client = None  # type: ignore[attr-defined]
    for name, labels in (
        ("stray", {NODE_LABEL: "host-1", UID_LABEL: "gone"}), ("kept", {NODE_LABEL: "host-1", UID_LABEL: "here"}),
        ("foreign", {NODE_LABEL: "host-2", UID_LABEL: "gone"}), ("own", {}),
    ):  # fmt: skip
        daemon.vms[name] = make_vm(name=name, labels=labels)
    agent = NodeAgent(cast("Any", FakeCluster()), cast("Any", daemon), FACTS)
    await agent._remove_strays({"here"})
    assert set(daemon.vms) == {"kept", "foreign", "own"}
    await asyncio.sleep(0)


class Renewals:
    """Leases that cannot be renewed until somebody `heals` the network; then `pods` are the node's.

    `is_silent`: nobody says so, either.
    """

    def __init__(self, pods: list[Pod], *, is_silent: bool) -> None:
        self.healed = False
        self._pods = pods
        self._is_silent = is_silent

    async def renew(self, *_: Any) -> None:
        while not self.healed:
            if not self._is_silent:
                raise ConnectionError("no route to host")
            await asyncio.sleep(0.01)

    async def list(self, *_: Any, **__: Any) -> AsyncIterator[Pod]:
        for pod in self._pods:
            yield pod


@pytest.mark.parametrize(("is_still_ours", "is_silent"), [(True, False), (False, False), (True, True)])
async def test_a_node_that_cannot_renew_its_lease_stops_what_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, is_still_ours: bool, is_silent: bool
) -> None:
    pod = make_pod(metadata={"annotations": {SELF_FENCE: "true"}})
    renewals = Renewals([pod] if is_still_ours else [], is_silent=is_silent)
    daemon, cluster = FakeDaemon(), FakeCluster()
    for name, value in {
        "renew_lease": renewals.renew,
        "LEASE_SECONDS": 0.1,
        "HEARTBEAT_SECONDS": 0.01,
    }.items():
        monkeypatch.setattr(f"volant.kubernetes.agent.{name}", value)
    cluster.client.list = renewals.list  # type: ignore[attr-defined]
    daemon.client = None  # type: ignore[attr-defined]
    agent = NodeAgent(cast("Any", cluster), cast("Any", daemon), FACTS)
    monkeypatch.setattr(agent.host.addresses, "_run", lambda *_: False)
    agent.host.addresses._range = cast("Any", "taken")
    name = name_vm(pod)
    daemon.vms[name] = make_vm(name=name, labels={NODE_LABEL: "host-1", UID_LABEL: pod.metadata.uid})  # type: ignore[union-attr]
    agent._compare([pod])
    keeping = asyncio.create_task(agent._keep_alive(cast("Any", None)))
    async with asyncio.timeout(30):
        while f"stop {name} force" not in daemon.acts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        # A busy machine is not cut off again.
        monkeypatch.setattr("volant.kubernetes.agent.LEASE_SECONDS", 1000)
        renewals.healed = True
        wanted = f"start {name}" if is_still_ours else f"delete {name}"
        while wanted not in daemon.acts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert daemon.acts == [f"stop {name} force", wanted]
    for task in (keeping, *agent._tasks):
        task.cancel()
    await asyncio.gather(keeping, *agent._tasks, return_exceptions=True)
