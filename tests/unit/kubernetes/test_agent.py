# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from support.fake_cluster import FakeCluster, FakeDaemon, make_pod, make_vm
from volant.kubernetes.agent import NodeAgent
from volant.kubernetes.node import HostFacts
from volant.kubernetes.pods import NODE_LABEL, UID_LABEL

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
