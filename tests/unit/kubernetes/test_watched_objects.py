# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from lightkube.resources.core_v1 import ConfigMap

from support.fake_cluster import FakeCluster
from volant.kubernetes.references import Reference
from volant.kubernetes.watched_objects import Place, WatchedObjects

SETTINGS = Reference("ConfigMap", "settings")
PLACE = Place("shop", SETTINGS)


def read_settings(value: str) -> ConfigMap:
    return cast("ConfigMap", ConfigMap.from_dict({"metadata": {"name": "settings"}, "data": {"a": value}}))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.asyncio
async def test_an_object_is_watched_once_for_all_and_no_longer_than_somebody_follows_it() -> None:
    cluster, woken = FakeCluster(), [0, 0]
    cluster.listed = [read_settings("1")]
    objects = WatchedObjects(cast("Any", cluster))

    def make_wake(number: int) -> Callable[[], None]:
        def wake() -> None:
            woken[number] += 1

        return wake

    wakes = [make_wake(0), make_wake(1)]
    for wake in [*wakes, wakes[0]]:
        objects.follow(wake, [PLACE])
    await until(lambda: woken == [1, 1])
    assert cluster.watched == ["ConfigMap shop/settings"]
    assert objects.find([PLACE, Place("other", SETTINGS)]) == {SETTINGS: {"a": b"1"}}
    cluster.changes.put_nowait(("MODIFIED", read_settings("1")))  # of something else than its values
    cluster.changes.put_nowait(("MODIFIED", read_settings("2")))
    await until(lambda: woken == [2, 2])
    assert objects.find([PLACE]) == {SETTINGS: {"a": b"2"}}
    objects.leave(wakes[0])
    cluster.changes.put_nowait(("DELETED", read_settings("2")))
    await until(lambda: woken == [2, 3])
    assert objects.find([PLACE]) == {}
    objects.leave(wakes[1])
    objects.follow(wakes[1], [PLACE])
    await until(lambda: woken == [2, 4])
    assert cluster.watched == ["ConfigMap shop/settings"] * 2
    objects.leave(wakes[1])
