# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import httpx2
import pytest

from support.fake_cluster import FakeCluster, make_pod
from volant.kubernetes.events import MOST_MESSAGE, tell_event


@pytest.mark.asyncio
async def test_an_event_names_its_pod_and_is_no_longer_than_a_cluster_takes() -> None:
    cluster = FakeCluster()
    await tell_event(cast("Any", cluster), make_pod(), "host-1", "Warning", "BackOff", "x" * 5000)
    (event,) = cluster.client.created
    assert (event.involvedObject.name, event.involvedObject.uid[:8]) == ("web", "0f3d2b1a")
    assert len(event.message) == MOST_MESSAGE
    assert event.source.host == "host-1"


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", [httpx2.ConnectError("refused"), httpx2.ReadTimeout("silent")])
async def test_a_cluster_that_is_away_keeps_nobody_from_going_on(failure: Exception) -> None:
    cluster = FakeCluster()

    def fail(made: object) -> None:
        raise failure

    cluster.client.answer = fail
    await tell_event(cast("Any", cluster), make_pod(), "host-1", "Normal", "Killing", "it failed")
