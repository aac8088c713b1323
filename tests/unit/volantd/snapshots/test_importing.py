# SPDX-License-Identifier: Apache-2.0
"""An archive goes out and comes in again; one that somebody has changed comes in nowhere and leaves nothing."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.memory_daemon import answer_for_agents, create_running, start_daemon_with_plugin
from support.memory_hypervisor import MemoryHost
from volant.errors import Conflict, InvalidInput, NotFound, VolantError
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.importing import take_disk
from volant.volantd.snapshots.resource import open_store
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.fleet import Fleet

Members = dict[str, bytes]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return answer_for_agents(monkeypatch)


async def export(fleet: Fleet, *, with_memory: bool) -> bytes:
    exported = await acts.export(fleet, open_store(fleet.domain), "then", with_memory=with_memory)
    return b"".join(exported.chunks())


def read_members(archive: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # files


def pack(members: Members, kind: bytes = tarfile.REGTYPE) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def change(members: Members, act: Callable[[dict[str, Any]], object]) -> Members:
    document = json.loads(members["snapshot.json"])
    act(document)
    return {**members, "snapshot.json": json.dumps(document).encode()}


def of_another_kernel(members: Members) -> Members:
    return change(members, lambda document: document["memory"].update(kernel="another"))


def rename(members: Members, before: str, after: str) -> Members:
    return {after if name == before else name: content for name, content in members.items()}


async def test_what_went_out_comes_in_and_another_vm_wakes_from_it(tmp_path: Path) -> None:
    host = MemoryHost()
    async with start_daemon_with_plugin(tmp_path, host) as fleet:
        store = open_store(fleet.domain)
        record = await create_running(fleet, "one")
        asked = {"suspend_when_idle_seconds": 600, "env": {"A": "ü"}, "labels": {"a": "b"}}
        fleet.domain.registry.update(record, definition=record.definition.model_copy(update=asked))
        then = host.living[0].content
        snapshot = await acts.take(fleet, store, "one", "then")
        small, whole = await export(fleet, with_memory=False), await export(fleet, with_memory=True)
        assert set(read_members(small)) == {"snapshot.json"}
        assert set(read_members(whole)) == {"snapshot.json", "state"}
        assert snapshot.wake is not None
        assert snapshot.wake.host_key.encode() not in small.replace(b"\\n", b"\n")
        await acts.delete(fleet, store, "then")
        taken = await acts.take_in(fleet, store, io.BytesIO(whole), "")
        with pytest.raises(Conflict, match="the name is taken"):
            await acts.take_in(fleet, store, io.BytesIO(small), "")
        disk_alone = await acts.take_in(fleet, store, io.BytesIO(small), "small")
        assert (taken.name, taken.vm_id, disk_alone.wake) == ("then", "", None)
        carried = snapshot.definition.model_copy(update={"restart": "on-failure"})
        assert taken.definition == disk_alone.definition == carried
        with pytest.raises(Conflict, match="needs kernel another"):
            await acts.take_in(
                fleet, store, io.BytesIO(pack(of_another_kernel(read_members(whole)))), "other"
            )
        assert taken.wake is not None
        assert taken.wake.image.state.read_text() == then
        with pytest.raises(InvalidInput, match="that is of VM one"):
            await acts.restore(fleet, store, "one", "then")
        await acts.create_vm(fleet, disk_alone, NewVm(name="two", plugin="", start=False))


@pytest.mark.parametrize(
    ("forge", "says"),
    [
        (lambda m: {"state": m["state"]}, "first entry is not snapshot.json"),
        (lambda m: {"snapshot.json": m["snapshot.json"]}, "state is missing"),
        (lambda m: {**m, "more": b""}, "more of 0 bytes is not what"),
        (lambda m: {**m, "state": b"x" * len(m["state"])}, "digest of state is wrong"),
        (lambda m: {**m, "state": m["state"] + b"x"}, "is not what snapshot.json says"),
        (lambda m: rename(m, "state", "../state"), "archive"),
        (lambda m: rename(m, "state", "/etc/passwd"), "archive|is not what"),
        (lambda m: {**m, "snapshot.json": b"{"}, "snapshot.json: "),
        (lambda m: {**m, "snapshot.json": b"[" * 100_000}, "snapshot.json: "),
        (lambda m: change(m, lambda d: d.update(name="../../x")), "snapshot.json: name: "),
        (lambda m: change(m, lambda d: d.update(wakes_from={"image": "/etc"})), "wakes_from: Extra inputs"),
        (lambda m: change(m, lambda d: d["memory"].update(spec={"kernel": "/etc/shadow"})), "memory.spec: Extra"),
        (lambda m: change(m, lambda d: d["files"][0].update(name="../x")), "files.0.name: "),
        (lambda m: change(m, lambda d: d["files"][0].update(size=1 << 60)), "files.0.size: "),
        (lambda m: change(m, lambda d: d["files"][0].update(size=1 << 45)), "more than such a machine can have"),
        (lambda m: change(m, lambda d: d["resources"].update(memory_mb=1 << 40)), "resources.memory_mb: "),
        (lambda m: change(m, lambda d: d["memory"].update(host_key="none")), "a key of it is none"),
        (lambda m: change(m, lambda d: d.update(secrets=[{"name": "db"}])), "secrets: Extra inputs"),
    ],
)  # fmt: skip
async def test_a_forged_archive_is_one_error_and_leaves_nothing(
    tmp_path: Path, forge: Callable[[Members], Members], says: str
) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await acts.take(fleet, store, "one", "then")
        forged = pack(forge(read_members(await export(fleet, with_memory=True))))
        await acts.delete(fleet, store, "then")
        with pytest.raises(InvalidInput, match=says) as caught:
            await acts.take_in(fleet, store, io.BytesIO(forged), "")
        assert "plugin archive" not in caught.value.what
        assert list(store.folder.iterdir()) == []


@pytest.mark.parametrize("length", [0, 100, 512, 2000])
async def test_an_archive_that_is_cut_off_leaves_nothing(tmp_path: Path, length: int) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await acts.take(fleet, store, "one", "then")
        archive = await export(fleet, with_memory=True)
        for content in (archive[:length], b"", bytes(4096), b"\x1f\x8bno gzip"):
            with pytest.raises(InvalidInput):
                await acts.take_in(fleet, store, io.BytesIO(content), "other")
        assert len(list(store.folder.iterdir())) == 1


async def test_it_needs_its_plugin_of_the_same_content(tmp_path: Path) -> None:
    async with start_daemon_with_plugin(tmp_path, MemoryHost()) as fleet:
        store = open_store(fleet.domain)
        await create_running(fleet, "one")
        await acts.take(fleet, store, "one", "then")
        members = read_members(await export(fleet, with_memory=False))

        async def take_in(act: Callable[[dict[str, Any]], object]) -> VolantError:
            with pytest.raises(VolantError) as caught:
                await acts.take_in(fleet, store, io.BytesIO(pack(change(members, act))), "other")
            return caught.value

        assert isinstance(await take_in(lambda d: d["plugin"].update(name="gone")), NotFound)
        error = await take_in(lambda d: d["plugin"].update(checksum=f"sha256:{'0' * 64}"))
        assert "has other content on this host" in error.what
        assert len(list(store.folder.iterdir())) == 1


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")
def test_a_disk_that_reaches_for_another_file_is_refused(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk.qcow2", tmp_path / "other.qcow2"
    for arguments in ([str(other), "1M"], ["-b", str(other), "-F", "qcow2", str(disk)]):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *arguments], check=True)
    with pytest.raises(InvalidInput, match="backing file"):
        take_disk(disk, tmp_path / "layers", other, "qcow2")
    disk.write_bytes(b"no qcow2 at all" * 1000)
    with pytest.raises(InvalidInput, match="is no QCOW2"):
        take_disk(disk, tmp_path / "layers", other, "qcow2")
