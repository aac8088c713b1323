# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import PersistentVolume
from lightkube.types import PatchType

from support.claims import GIB, make_bound, make_claim, make_class
from volant.errors import Conflict, NotFound
from volant.kubernetes.persistent_volumes import FINALIZER
from volant.kubernetes.provisioner import Provisioner


class Refusal(ApiError):
    def __init__(self, code: int) -> None:
        Exception.__init__(self, f"code {code}")
        self.status = cast("Any", type("Status", (), {"code": code}))


class FakeObjects:
    """The cluster's objects by kind and name; the volumes' finalizers hold them as the API server does it."""

    def __init__(self, *objects: Any) -> None:
        self.kept = {(type(one).__name__, one.metadata.name): one for one in objects}
        self.events: list[str] = []

    async def get(self, kind: Any, name: str, **_: Any) -> Any:
        try:
            return self.kept[kind.__name__, name]
        except KeyError:
            raise Refusal(404) from None

    async def create(self, made: Any) -> Any:
        if type(made).__name__ == "Event":
            self.events.append(made.reason)
            return made
        key = (type(made).__name__, made.metadata.name)
        if key in self.kept:
            raise Refusal(409)
        self.kept[key] = made
        return made

    async def delete(self, kind: Any, name: str) -> None:
        found = await self.get(kind, name)
        if found.metadata.finalizers:
            found.metadata.deletionTimestamp = "2026-11-27T10:00:00Z"
        else:
            del self.kept[kind.__name__, name]

    async def patch(self, kind: Any, name: str, changes: dict[str, Any], *, patch_type: PatchType) -> None:
        assert patch_type is PatchType.MERGE, "any other adds to a list"
        found = await self.get(kind, name)
        found.metadata.finalizers = changes["metadata"]["finalizers"]
        if found.metadata.deletionTimestamp and not found.metadata.finalizers:
            del self.kept[kind.__name__, name]


class FakeVolumes:
    """The daemon's volumes; `held` are those that a VM has."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.held: set[str] = set()

    async def create_volume(self, name: str, size: str) -> Any:
        if name in self.sizes:
            raise Conflict("there is one")
        self.sizes[name] = int(size)
        return {"name": name, "size_bytes": int(size)}

    async def list_volumes(self) -> Any:
        return [{"name": name, "size_bytes": size} for name, size in self.sizes.items()]

    async def delete_volume(self, name: str) -> None:
        if name in self.held:
            raise Conflict("a VM has it")
        if name not in self.sizes:
            raise NotFound("there is none")
        del self.sizes[name]


class World:
    def __init__(self, *objects: Any) -> None:
        self.objects, self.volumes = FakeObjects(*objects, make_class()), FakeVolumes()
        cluster = type("Cluster", (), {"client": self.objects})
        self.provisioner = Provisioner(cast("Any", cluster), cast("Any", self.volumes), "host-1")

    def find(self, name: str = "pvc-c0ffee") -> PersistentVolume | None:
        return self.objects.kept.get(("PersistentVolume", name))


@pytest.mark.asyncio
async def test_a_claim_is_given_one_volume_however_often_it_is_seen() -> None:
    world = World(make_claim())
    for _ in range(2):
        await world.provisioner.provide(make_claim())
    assert world.volumes.sizes == {"pvc-c0ffee": 2 * GIB}
    volume = world.find()
    assert volume is not None
    assert volume.spec is not None
    assert volume.spec.capacity == {"storage": str(2 * GIB)}
    assert world.objects.events == ["ProvisioningSucceeded"]


@pytest.mark.asyncio
async def test_an_agent_that_was_killed_in_between_goes_on_with_the_volume_that_is_there() -> None:
    world = World(make_claim())
    world.volumes.sizes["pvc-c0ffee"] = 3 * GIB
    await world.provisioner.provide(make_claim())
    volume = world.find()
    assert volume is not None
    assert volume.spec is not None
    assert volume.spec.capacity == {"storage": str(3 * GIB)}


@pytest.mark.asyncio
async def test_a_claim_that_is_gone_or_another_by_now_is_given_nothing() -> None:
    for objects in ((), (make_claim(volumeName="another"),)):
        world = World(*objects)
        await world.provisioner.provide(make_claim())
        assert world.volumes.sizes == {}


@pytest.mark.asyncio
async def test_what_cannot_be_is_told_and_not_tried_for_ever() -> None:
    claim = make_claim(accessModes=["ReadWriteMany"])
    world = World(claim)
    await world.provisioner.provide(claim)
    assert world.objects.events == ["ProvisioningFailed"]
    assert world.find() is None


@pytest.mark.asyncio
async def test_it_goes_with_its_data_once_no_vm_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.kubernetes.provisioner.FIRST_RETRY_SECONDS", 0.01)
    world = World(make_bound("Released"))
    world.volumes.sizes["pvc-c0ffee"] = GIB
    world.volumes.held.add("pvc-c0ffee")
    world.provisioner._see_volumes([make_bound("Released")])
    await asyncio.sleep(0.05)
    assert world.find() is not None
    world.volumes.held.clear()
    async with asyncio.timeout(30):
        while world.find() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert world.volumes.sizes == {}


@pytest.mark.asyncio
async def test_what_is_to_stay_stays_also_where_somebody_said_so_only_now() -> None:
    world = World(make_bound("Released", policy="Retain"))
    world.volumes.sizes["pvc-c0ffee"] = GIB
    await world.provisioner.take_away("pvc-c0ffee")
    kept = world.find()
    assert kept is not None
    assert kept.metadata is not None
    assert kept.metadata.finalizers == [FINALIZER]
    await world.objects.delete(PersistentVolume, "pvc-c0ffee")
    await world.provisioner.take_away("pvc-c0ffee")
    assert world.find() is None
    assert world.volumes.sizes == {"pvc-c0ffee": GIB}
