# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from lightkube.resources.core_v1 import ConfigMap, Pod

from support.fake_cluster import FakeCluster, FakeDaemon, make_pod, make_vm
from volant.errors import Conflict, ToolFailed
from volant.kubernetes.addresses import PodAddresses
from volant.kubernetes.boots import Boots
from volant.kubernetes.probing import Failure
from volant.kubernetes.references import Found, Reference
from volant.kubernetes.watched_objects import WatchedObjects
from volant.kubernetes.worker import SELF_FENCE, Host, PodWorker

NAME = "shop-web-0f3d2b1a"
LABEL = "metadata.labels['app']"


def read_settings(value: str) -> ConfigMap:
    return cast("ConfigMap", ConfigMap.from_dict({"metadata": {"name": "settings"}, "data": {"a": value}}))


async def let_wake(worker: PodWorker) -> None:
    """The next step of a worker that nobody runs."""
    worker._changed.clear()
    async with asyncio.timeout(30):
        await worker._changed.wait()
    await worker.bring_about()


class FakeImages:
    failing: Exception | None = None

    async def provide(self, image: str, policy: str | None) -> str:
        if self.failing is not None:
            raise self.failing
        return image


class World:
    def __init__(self, pod: Pod) -> None:
        self.cluster, self.daemon, self.images = FakeCluster(), FakeDaemon(), FakeImages()
        host = Host(
            "host-1", "192.0.2.1", cast("Any", self.cluster), cast("Any", self.daemon), cast("Any", self.images),
            PodAddresses("192.0.2.1"), Boots(cast("Any", self.daemon)), WatchedObjects(cast("Any", self.cluster)),
        )  # fmt: skip
        self.worker = PodWorker(host, pod)

    @property
    def phases(self) -> list[str]:
        return [status["phase"] for status in self.cluster.statuses]


@pytest.mark.asyncio
async def test_a_pod_becomes_a_vm_once_and_is_told_of_once() -> None:
    world = World(make_pod())
    for _ in range(3):
        assert not await world.worker.bring_about()
    assert world.daemon.acts == [f"create {NAME}"]
    assert world.phases == ["Running"]


@pytest.mark.asyncio
async def test_a_vm_of_the_agent_before_is_taken_up() -> None:
    world = World(make_pod())
    world.daemon.vms[NAME] = make_vm(name=NAME)
    await world.worker.bring_about()
    assert world.daemon.acts == []
    assert world.phases == ["Running"]


@pytest.mark.asyncio
async def test_two_agents_at_once_make_one_vm() -> None:
    world = World(make_pod())
    world.daemon.failing = Conflict("it is there")
    world.daemon.vms[NAME] = make_vm(name=NAME)
    vm = await world.worker._make_vm(world.worker.pod)
    assert vm["name"] == NAME
    assert list(world.daemon.vms) == [NAME]


@pytest.mark.asyncio
async def test_a_refused_pod_has_failed_and_no_vm() -> None:
    world = World(make_pod({"hostNetwork": True}))
    assert not await world.worker.bring_about()
    assert world.phases == ["Failed"]
    assert world.daemon.acts == []


@pytest.mark.asyncio
async def test_a_deleted_pod_ends_within_its_grace_and_is_let_go() -> None:
    deleted = {"deletionTimestamp": "2026-11-27T10:00:00Z", "deletionGracePeriodSeconds": 7}
    world = World(make_pod(metadata=deleted))
    world.daemon.vms[NAME] = make_vm(name=NAME)
    assert await world.worker.bring_about()
    assert world.daemon.acts == [f"stop {NAME} 7", f"delete {NAME}"]
    assert world.cluster.removed == ["web"]


@pytest.mark.asyncio
async def test_a_pod_that_is_gone_takes_its_vm_with_it() -> None:
    world = World(make_pod({"terminationGracePeriodSeconds": 3}))
    world.daemon.vms[NAME] = make_vm(name=NAME)
    world.worker.orphan()
    assert await world.worker.bring_about()
    assert world.daemon.acts == [f"stop {NAME} 3", f"delete {NAME}"]
    assert world.cluster.removed == []


@pytest.mark.asyncio
async def test_what_stands_in_the_way_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.kubernetes.worker.FIRST_RETRY_SECONDS", 0.01)
    world = World(make_pod())
    world.images.failing = ToolFailed("no such image")
    running = asyncio.create_task(world.worker.run())
    async with asyncio.timeout(30):
        while not world.cluster.statuses:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        world.images.failing = None
        while not world.daemon.vms:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()
    (container,) = world.cluster.statuses[0]["containerStatuses"]
    assert container["state"]["waiting"]["reason"] == "ImagePullBackOff"


@pytest.mark.asyncio
async def test_a_pod_for_ever_is_started_again_and_a_task_that_ended_is_not() -> None:
    for policy, acts in (("Always", [f"start {NAME}"]), ("Never", [])):
        world = World(make_pod({"restartPolicy": policy}))
        world.daemon.vms[NAME] = make_vm(name=NAME, status="stopped", exit_code=0)
        await world.worker.bring_about()
        assert world.daemon.acts == acts


@pytest.mark.asyncio
async def test_only_who_asked_for_it_is_fenced() -> None:
    for noted, acts in (({}, []), ({SELF_FENCE: "true"}, [f"stop {NAME} force"])):
        world = World(make_pod(metadata={"annotations": noted}))
        world.daemon.vms[NAME] = make_vm(name=NAME)
        await world.worker.fence()
        assert world.daemon.acts == acts
        await world.worker.bring_about()
        assert world.daemon.acts == acts, "what is fenced is not started again"
        world.worker.let_go_on()
        await world.worker.bring_about()
        assert world.daemon.acts == acts + [f"start {NAME}"] * len(acts)


@pytest.mark.asyncio
async def test_a_probe_that_says_so_ends_the_run_and_the_next_one_is_counted() -> None:
    world = World(make_pod({"terminationGracePeriodSeconds": 9}, livenessProbe={"tcpSocket": {"port": 80}}))
    await world.worker.bring_about()
    world.worker._prober.failure = Failure("liveness", "nobody answers", None)
    await world.worker.bring_about()
    assert world.daemon.acts == [f"create {NAME}", f"restart {NAME} 9"]
    (container,) = world.cluster.statuses[-1]["containerStatuses"]
    assert container["restartCount"] == 1
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert ended["message"] == "failed liveness probe: nobody answers"
    assert [event.reason for event in world.cluster.client.created] == ["Started", "Killing"]


@pytest.mark.asyncio
async def test_a_pod_that_runs_once_has_failed_by_its_probe() -> None:
    world = World(make_pod({"restartPolicy": "Never"}))
    await world.worker.bring_about()
    world.worker._prober.failure = Failure("startup", "too slow", 0)
    await world.worker.bring_about()
    assert world.daemon.acts == [f"create {NAME}", f"stop {NAME} 0"]
    assert world.phases[-1] == "Failed"
    (container,) = world.cluster.statuses[-1]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 137


@pytest.mark.asyncio
async def test_a_vm_that_waits_for_anothers_volume_says_so_and_is_no_missing_image() -> None:
    world = World(make_pod())
    world.daemon.failing = Conflict("VM other writes to volume pvc-1")
    running = asyncio.create_task(world.worker.run())
    async with asyncio.timeout(30):
        while not world.cluster.statuses:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (container,) = world.cluster.statuses[0]["containerStatuses"]
        waiting = container["state"]["waiting"]
        assert (waiting["reason"], world.worker.is_held) == ("ContainerCreating", True)
        assert "writes to volume" in waiting["message"]
        world.worker.wake()
        await asyncio.sleep(0.05)
        assert world.daemon.acts == [f"create {NAME}"], "what it told of itself is no reason to try again"
        world.worker.let_in()
        while not world.daemon.vms or world.worker.is_held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    running.cancel()


@pytest.mark.asyncio
async def test_a_vm_that_cannot_be_stopped_now_is_stopped_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("volant.kubernetes.worker.FIRST_RETRY_SECONDS", 0.01)
    world = World(make_pod(metadata={"annotations": {SELF_FENCE: "true"}}))
    world.daemon.vms[NAME] = make_vm(name=NAME)
    stop, refusals = world.daemon.stop_vm, iter([OSError("the daemon starts anew")])

    async def refuse_once(name: str, **how: Any) -> Any:
        for refusal in refusals:
            raise refusal
        return await stop(name, **how)

    monkeypatch.setattr(world.daemon, "stop_vm", refuse_once)
    await world.worker.fence()
    assert world.daemon.acts == [f"stop {NAME} force"]


@pytest.mark.asyncio
async def test_files_of_the_guest_follow_what_they_are_made_of() -> None:
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "pod", "downwardAPI": {"items": [{"path": "app", "fieldRef": {"fieldPath": LABEL}}]}},
    ]
    mounts = [{"name": "settings", "mountPath": "/settings"}, {"name": "pod", "mountPath": "/pod"}]
    pod = make_pod({"volumes": volumes}, volumeMounts=mounts)
    world = World(pod)
    world.cluster.found = Found({Reference("ConfigMap", "settings"): {"a": b"1"}})
    world.cluster.listed = [read_settings("1")]
    await world.worker.bring_about()
    await let_wake(world.worker)
    assert world.daemon.acts == [f"create {NAME}"], "all is there since the VM was made"
    world.cluster.changes.put_nowait(("MODIFIED", read_settings("2")))
    await let_wake(world.worker)
    assert world.daemon.acts[1:] == [f"write {NAME} /settings/a 2 644"]
    assert pod.metadata is not None
    pod.metadata.labels = {"app": "shop"}
    await world.worker.bring_about()
    assert world.daemon.acts[2:] == [f"write {NAME} /pod/app shop 644"]
    world.worker.orphan()
    await world.worker.bring_about()


@pytest.mark.asyncio
async def test_a_pod_that_was_active_for_too_long_is_stopped_and_has_failed() -> None:
    world = World(make_pod({"terminationGracePeriodSeconds": 4}))
    await world.worker.bring_about()
    assert world.worker.pod.spec is not None
    world.worker.pod.spec.activeDeadlineSeconds = 3600
    await world.worker.bring_about()
    assert world.phases == ["Running"]
    world.worker.pod.spec.activeDeadlineSeconds = 1
    assert world.worker.pod.status is not None
    world.worker.pod.status.startTime = datetime.now(UTC) - timedelta(seconds=2)
    await world.worker.bring_about()
    assert world.daemon.acts == [f"create {NAME}", f"stop {NAME} 4"]
    told = world.cluster.statuses[-1]
    assert (told["phase"], told["reason"]) == ("Failed", "DeadlineExceeded")
    assert "terminated" in told["containerStatuses"][0]["state"]
    await world.worker.bring_about()
    assert world.daemon.acts == [f"create {NAME}", f"stop {NAME} 4"], "it is not started again"


@pytest.mark.asyncio
async def test_a_pod_that_is_given_years_to_end_is_given_what_the_daemon_waits() -> None:
    deleted = {"deletionTimestamp": "2026-11-27T10:00:00Z", "deletionGracePeriodSeconds": 10**9}
    world = World(make_pod(metadata=deleted))
    world.daemon.vms[NAME] = make_vm(name=NAME)
    assert await world.worker.bring_about()
    assert world.daemon.acts == [f"stop {NAME} 86400", f"delete {NAME}"]
