# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import contextlib
import http.server
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.breaking_server import serve
from support.disk_images import make_source
from support.memory_daemon import start_daemon
from support.memory_fleet import open_fleet
from support.memory_hypervisor import MemoryHost
from support.plugin_files import make_plugin
from volant.errors import Conflict, InvalidInput, NotFound, VolantError
from volant.process import run_tool
from volant.volantd.vms import making
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.request_keys import RequestKey
from volant.volantd.vms.volumes import make_mounts
from volant.volantd.volumes.store import VolumeStore

DATA = {"name": "data", "target": "/var/lib/app", "size": "64M"}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with open_fleet(tmp_path) as fleet:
        await install(fleet, DATA, {"name": "cache", "size": "32M"})
        yield fleet


async def install(fleet: Fleet, *disks: dict[str, Any], name: str = "app") -> None:
    await fleet.domain.plugins.install(io.BytesIO(make_plugin(name, disks=list(disks))), source=name)


async def create(fleet: Fleet, name: str, plugin: str = "app", **facts: Any) -> None:
    await fleet.create(NewVm(name=name, plugin=plugin, network="vsock", **facts))


def list_volumes(fleet: Fleet) -> list[str]:
    return [volume.name for volume in fleet.domain.volumes.list_all()]


async def test_a_vm_has_a_volume_for_each_disk_of_its_plugin(fleet: Fleet) -> None:
    await create(fleet, "one")
    await create(fleet, "two")
    store = fleet.domain.volumes
    assert list_volumes(fleet) == ["one-cache", "one-data", "two-cache", "two-data"]
    assert store.get("one-data").size_bytes == 64 << 20
    assert all(volume.is_settled for volume in store.list_all())
    assert [mount.target for mount in make_mounts(fleet.get("one"))] == ["/mnt/cache", "/var/lib/app"]
    run_tool(["e2fsck", "-f", "-n", str(store.find_disk(store.get("one-data")))])


async def test_they_are_kept_when_the_vm_goes_and_the_next_one_of_that_name_has_them_again(
    fleet: Fleet,
) -> None:
    await create(fleet, "one")
    before = fleet.domain.volumes.get("one-data")
    await fleet.delete("one", force=True)
    await create(fleet, "one")
    assert fleet.domain.volumes.get("one-data") == before
    await fleet.delete("one", force=True, volumes=True)
    assert list_volumes(fleet) == ["one-cache", "one-data"], "what was there before it stays"


async def test_those_that_were_made_with_it_go_with_it_where_that_is_asked_for(fleet: Fleet) -> None:
    fleet.domain.volumes.create("mine", 1 << 24)
    await create(fleet, "one", volumes=[("mine", "/mine", False)])
    await create(fleet, "reader", plugin="web", volumes=[("one-cache", "/x", True)], start=False)
    await fleet.delete("one", force=True, volumes=True)
    assert list_volumes(fleet) == ["mine", "one-cache"], "another VM has the one, a person made the other"


async def test_a_volume_for_the_same_folder_comes_first(fleet: Fleet) -> None:
    fleet.domain.volumes.create("mine", 1 << 24)
    await create(fleet, "one", volumes=[("mine", "/var/lib/app/", False)])
    assert list_volumes(fleet) == ["mine", "one-cache"]


async def test_one_without_a_name_is_made_with_the_vm_and_named_by_its_folder(fleet: Fleet) -> None:
    nameless = [("", "/Var/lib/db", False), ("", "/var/lib/app", True)]
    await create(fleet, "one", volumes=nameless)
    assert list_volumes(fleet) == ["one-cache", "one-var-lib-app", "one-var-lib-db"]
    assert not any(volume.read_only for volume in fleet.get("one").definition.volumes), (
        "an empty one is of no use"
    )
    await fleet.delete("one", force=True, volumes=True)
    assert list_volumes(fleet) == []
    with pytest.raises(InvalidInput, match="cannot name a volume for /ü"):
        await create(fleet, "two", "web", volumes=[("", "/ü", False)])
    with pytest.raises(InvalidInput, match="at most 63"):
        await create(fleet, "v" * 60, "web", volumes=[("", "/data", False)])
    await create(fleet, "web-1", "web", volumes=nameless, deployment="web")
    await fleet.delete("web-1", force=True)
    assert list_volumes(fleet) == []


async def test_what_a_replica_has_goes_with_it(fleet: Fleet) -> None:
    await create(fleet, "app-1", deployment="app")
    await fleet.delete("app-1", force=True)
    assert list_volumes(fleet) == []


async def test_a_vm_that_does_not_come_to_be_leaves_none(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        await create(fleet, "one", volumes=[("nowhere", "/x", False)])
    assert list_volumes(fleet) == []

    async def fail(*_: object, **__: object) -> None:
        raise VolantError("cannot start it")

    monkeypatch.setattr(fleet, "start", fail)
    with pytest.raises(VolantError, match="cannot start it"):
        await create(fleet, "one")
    assert list_volumes(fleet) == []
    assert list(fleet.domain.volumes.folder.iterdir()) == []


async def test_after_a_kill_one_whose_vm_is_there_stays_and_another_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    home.mkdir()
    host = MemoryHost()
    with monkeypatch.context() as killed:
        killed.setattr(VolumeStore, "settle", lambda *_: None)
        async with start_daemon(home, host) as fleet:
            await install(fleet, DATA)
            await create(fleet, "one", start=False)
            fleet.domain.volumes.create("two-data", 1 << 24, is_settled=False)
    async with start_daemon(home, host) as fleet:
        (left,) = fleet.domain.volumes.list_all()
        assert (left.name, left.is_settled) == ("one-data", True)
        await fleet.delete("one", force=True, volumes=True)
        assert list_volumes(fleet) == []


async def test_what_is_only_read_is_one_volume_for_all(fleet: Fleet, tmp_path: Path) -> None:
    content, checksum = make_source(tmp_path, "raw")
    with serve(content) as url:
        disk = {"name": "model", "source": url, "checksum": checksum, "readonly": True}
        await install(fleet, disk, name="reads")
        await asyncio.gather(*(create(fleet, name, "reads") for name in ("one", "two", "three")))
    (name,) = list_volumes(fleet)
    assert name == f"reads-model-{checksum[7:19]}"
    assert all(fleet.get(vm).definition.volumes[0].read_only for vm in ("one", "two", "three"))
    for vm in ("one", "two", "three"):
        await fleet.delete(vm, force=True, volumes=True)


async def test_a_source_that_is_no_disk_leaves_nothing(fleet: Fleet) -> None:
    with serve(b"x" * 4096) as url:
        await install(fleet, {"name": "seed", "source": url, "checksum": "sha256:" + "0" * 64}, name="seeded")
        with pytest.raises(InvalidInput, match="answers with something else"):
            await create(fleet, "one", "seeded")
    assert list_volumes(fleet) == []
    assert list(fleet.domain.volumes.folder.iterdir()) == []
    assert fleet.list_all() == []


@pytest.mark.parametrize(
    ("disk", "problem"),
    [
        ({"name": "data", "target": "vdb"}, "target"),
        ({"name": "data", "size": "10"}, "size"),
        (
            {"name": "data", "source": "data.img", "checksum": "sha256:" + "0" * 64},
            "not packed into a plugin",
        ),
        ({"name": "data", "source": "https://x/d.img"}, "no checksum"),
        ({"name": "data", "readonly": True}, "empty without a source"),
    ],
)
async def test_disks_that_cannot_be_are_told_when_the_plugin_is_installed(
    fleet: Fleet, disk: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await install(fleet, disk, name="bad")
    assert problem in str(refused.value.details)


async def test_two_disks_at_one_place_are_told(fleet: Fleet) -> None:
    with pytest.raises(InvalidInput) as refused:
        await install(fleet, DATA, {"name": "logs", "target": "/var/lib/app"}, name="bad")
    assert "lie at /var/lib/app" in str(refused.value.details)


@pytest.mark.parametrize("target", ["/", "/proc/x", "/a/../b"])
async def test_a_folder_that_no_disk_can_have_is_refused(fleet: Fleet, target: str) -> None:
    await install(fleet, {"name": "data", "target": target}, name="bad")
    with pytest.raises(InvalidInput, match="cannot mount a disk"):
        await create(fleet, "one", "bad")
    assert list_volumes(fleet) == []


class SlowServer:
    """Sends a first part of the file, and the rest when it is let."""

    def __init__(self, content: bytes) -> None:
        self.content, self.let, self.asked = content, threading.Event(), threading.Event()

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        slow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(slow.content)))
                self.end_headers()
                self.wfile.write(slow.content[:4096])
                slow.asked.set()
                slow.let.wait(60)
                with contextlib.suppress(OSError):
                    self.wfile.write(slow.content[4096:])

            def log_message(self, *_: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/disk"
            self.let.set()
            server.shutdown()


async def test_one_whose_disk_is_being_fetched_has_its_name_and_can_be_deleted(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SLOW_SECONDS", 0.0)
    content, checksum = make_source(tmp_path, "raw")
    slow = SlowServer(content)
    with slow.serve() as url, fleet.domain.events.listen() as happenings:
        await install(fleet, {"name": "seed", "source": url, "checksum": checksum}, name="seeded")
        creating = asyncio.ensure_future(create(fleet, "one", "seeded"))
        assert await asyncio.to_thread(slow.asked.wait, 60)
        while (event := await happenings.get()).kind != "fetching":
            pass
        assert event.vm == "one"
        assert event.data["disk"] == "seed" and 0 < event.data["done_bytes"] <= event.data["total_bytes"]
        with pytest.raises(Conflict, match="is being created"):
            await create(fleet, "one", "web")
        await fleet.delete("one")
        with pytest.raises(NotFound):
            await fleet.delete("one")
        slow.let.set()
        with pytest.raises(Conflict, match="deleted meanwhile"):
            await creating
        assert list_volumes(fleet) == []
        assert list(fleet.domain.volumes.folder.iterdir()) == []
        await create(fleet, "one", "seeded")
    assert list_volumes(fleet) == ["one-seed"]


async def test_who_asks_again_waits_for_the_same_vm(fleet: Fleet, tmp_path: Path) -> None:
    content, checksum = make_source(tmp_path, "raw")
    slow = SlowServer(content)
    key = RequestKey("somebody", "key", b"content")
    with slow.serve() as url:
        await install(fleet, {"name": "seed", "source": url, "checksum": checksum}, name="seeded")
        request = NewVm(name="one", plugin="seeded", network="vsock")
        asking = [
            asyncio.ensure_future(fleet.create_once(key, request, lambda wanted: fleet.create(wanted)))
            for _ in range(2)
        ]
        assert await asyncio.to_thread(slow.asked.wait, 60)
        slow.let.set()
        (first, _), (second, is_replayed) = await asyncio.gather(*asking)
    assert (first.id, is_replayed) == (second.id, True)
