# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from support.breaking_server import serve
from support.plugin_files import make_initramfs, make_plugin
from support.written_plugins import write_plugin_file
from volant.contract.manifest import Manifest
from volant.errors import Conflict, InvalidInput, NotFound, Unreachable
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.plugin_archive import DiskOptions
from volant.progress import SilentMonitor
from volant.volantd.database import Database
from volant.volantd.plugins.store import PluginStore, version_key
from volant.volantd.plugins.trust import MIGRATIONS
from volant.volantd.usage import Usage

Users = dict[str, list[str]]


@pytest.fixture
def users() -> Users:
    """VMs by the plugin that they use."""
    return {}


@pytest.fixture
def store(tmp_path: Path, users: Users) -> PluginStore:
    usage = Usage()
    usage.ask("VM", "vms", lambda _, name: users.get(name, []))
    database = Database(tmp_path / "db")
    database.bring_up_to_date({"plugins": MIGRATIONS})
    return PluginStore(database, tmp_path / "plugins", usage)


async def install(store: PluginStore, content: bytes) -> bool:
    _, is_new = await store.install(io.BytesIO(content), source="test")
    return is_new


async def test_install_keeps_the_payload_read_only_under_its_content(store: PluginStore) -> None:
    assert await install(store, make_plugin())
    plugin = store.load("web")
    assert plugin.payload.read_bytes() == make_initramfs()
    assert plugin.payload.stat().st_mode & 0o777 == 0o400
    assert plugin.manifest.workload.port == 8080
    assert not await install(store, make_plugin())


@pytest.mark.parametrize("kind", ["rootfs", "initramfs"])
@pytest.mark.parametrize(
    ("image_json", "architecture"),
    [(b'{"architecture": "arm64"}', "arm64"), (b"{}", "amd64"), (b"no JSON", ""), (None, "")],
)
async def test_the_machine_that_a_plugin_is_for(
    store: PluginStore, tmp_path: Path, kind: str, image_json: bytes | None, architecture: str
) -> None:
    await install(store, make_plugin_for_machine(tmp_path, kind, image_json))
    assert store.load("app").architecture == architecture


def make_plugin_for_machine(folder: Path, kind: str, image_json: bytes | None) -> bytes:
    if kind == "initramfs":
        return make_plugin("app", payload=make_initramfs(image_json=image_json))
    tree = FileTree()
    (folder / "image.json").write_bytes(image_json or b"")
    with (folder / "image.json").open("rb") as file:
        parent = ROOT
        for name in (b"etc", b"kestrel"):
            parent = tree.add_directory(parent, name, Metadata(stat.S_IFDIR | 0o755))
        if image_json is not None:
            source = tree.add_source(file.fileno())
            tree.add_file(parent, b"image.json", Metadata(stat.S_IFREG | 0o644), len(image_json), source)
        image = plan_ext4(tree, size_bytes=64 << 20)
        plugin = folder / "plugin.tar.gz"
        write_plugin_file(
            plugin, image, Manifest(name="app", version="1.0.0"), DiskOptions(), SilentMonitor()
        )
    return plugin.read_bytes()


async def test_versions_share_a_payload_until_the_last_goes(store: PluginStore) -> None:
    await install(store, make_plugin(version="1.0.0"))
    await install(store, make_plugin(version="1.10.0"))
    await install(store, make_plugin(version="1.9.0"))
    assert store.get("web").version == "1.10.0"
    store.enable("web:1.10.0", False)
    assert store.get("web").version == "1.9.0"
    payload = store.load("web").payload
    await store.remove("web:1.9.0")
    assert payload.exists()
    assert len(await store.remove("web")) == 2
    assert not payload.exists()
    with pytest.raises(NotFound, match="cannot find plugin web"):
        store.get("web")


async def test_the_same_version_with_another_manifest_is_refused(store: PluginStore) -> None:
    await install(store, make_plugin())
    with pytest.raises(Conflict, match="installed with other content"):
        await install(store, make_plugin(description="changed"))


def make_manifest_alone(url: str, **more: str) -> bytes:
    document = {"name": "other", "version": "1.0.0", "initramfs": {"url": url, **more}}
    manifest = json.dumps(document).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        tar.addfile(entry, io.BytesIO(manifest))
    return archive.getvalue()


async def test_a_manifest_alone_names_no_payload(store: PluginStore) -> None:
    """Else an archive that merely claims a checksum would take the place of the payload that has it."""
    await install(store, make_plugin())
    checksum = store.get("web").checksum
    await store.remove("web")
    url = "http://127.0.0.1:1/initramfs.cpio.gz"
    with pytest.raises(InvalidInput, match=r"http://127\.0\.0\.1:1/.* has no checksum"):
        await install(store, make_manifest_alone(url))
    with pytest.raises(Unreachable, match="cannot fetch"):
        await install(store, make_manifest_alone(url, checksum=checksum))
    assert store.list_all() == []
    await install(store, make_plugin())
    assert store.load("web").payload.read_bytes() == make_initramfs()


async def test_a_disk_that_is_elsewhere_is_fetched_and_checked(store: PluginStore, tmp_path: Path) -> None:
    content = make_initramfs()
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with serve(content) as url:
        await install(store, make_manifest_alone(url, checksum=checksum))
        with pytest.raises(InvalidInput, match="not the one in its manifest"):
            await install(store, make_manifest_alone(url, checksum=f"sha256:{'0' * 64}"))
    plugin = store.load("other")
    assert plugin.payload.read_bytes() == content
    assert plugin.manifest.initramfs is not None
    assert plugin.manifest.initramfs.path == "initramfs"
    assert plugin.manifest.initramfs.url is None
    assert list((tmp_path / "plugins" / "incoming").iterdir()) == []


async def test_a_plugin_in_use_stays(store: PluginStore, users: Users) -> None:
    await install(store, make_plugin())
    users["web:1.0.0"] = ["user"]
    with pytest.raises(Conflict, match="1 VM") as caught:
        await store.remove("web")
    assert "volar vms delete user" in caught.value.resolution
    assert store.load("web").payload.exists()


async def test_bad_archives_leave_nothing(store: PluginStore, tmp_path: Path) -> None:
    checksum = {"path": "initramfs.cpio.gz", "checksum": "sha256:" + "0" * 64}
    for content in (b"", b"junk" * 1000, make_plugin()[:-50], make_plugin(initramfs=checksum)):
        with pytest.raises(InvalidInput):
            await install(store, content)
    assert store.list_all() == []
    assert [path for path in (tmp_path / "plugins").rglob("*") if path.is_file()] == []


async def test_what_a_kill_leaves_is_swept(store: PluginStore, tmp_path: Path) -> None:
    await install(store, make_plugin())
    (tmp_path / "plugins" / "incoming" / "half").write_bytes(b"x")
    (tmp_path / "plugins" / "sha256" / ("0" * 64)).write_bytes(b"renamed, but its row was never written")
    (store.find_payload("sha256:folder") / "below").mkdir(parents=True)
    known, cut_off = store.load("web").payload, store.find_payload("sha256:" + "1" * 64)
    cut_off.write_bytes(b"an install or a removal that did not get to its row")
    os.link(cut_off, tmp_path / "plugins" / "incoming" / "going")
    os.link(known, tmp_path / "plugins" / "incoming" / "going too")
    set_aside: list[Path] = []
    assert len(store.sweep(set_aside.append)) == len(set_aside) == 2
    assert {path.name for path in known.parent.iterdir()} == {known.name, "0" * 64, "folder"}
    assert list((tmp_path / "plugins" / "incoming").iterdir()) == []


async def test_a_plugin_that_the_database_has_forgotten_is_taken_back(
    store: PluginStore, tmp_path: Path
) -> None:
    await install(store, make_plugin())
    row = store.export_row("web:1.0.0")
    payload = store.load("web").payload
    lost = tmp_path / "lost"
    lost.mkdir()
    await store.remove("web")
    with pytest.raises(NotFound, match="its disk is gone"):
        store.restore_row(row, lost)
    (lost / f"plugin-{payload.name}").write_bytes(b"the payload")
    store.restore_row(row, lost)
    assert store.load("web:1.0.0").payload.read_bytes() == b"the payload"
    store.restore_row(row, lost)


@pytest.mark.parametrize("damaged", ["garbage", "{}", "5", '{"manifest": {}, "files": {}}'])
async def test_a_row_that_cannot_be_read_is_told_and_mended_by_the_same_plugin(
    store: PluginStore, tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    await install(store, make_plugin("web"))
    await install(store, make_plugin("other"))
    payload = store.load("web").payload
    Database(tmp_path / "db").execute("UPDATE plugins SET manifest = ? WHERE name = 'web'", (damaged,))
    assert (
        [plugin.name for plugin in store.list_all()]
        == [plugin.name for plugin in store.list_all()]
        == ["other"]
    )
    assert caplog.text.count("its row in the database is damaged") == 1
    for read in (store.get, store.load):
        with pytest.raises(Conflict, match="cannot read plugin web"):
            read("web")
    assert store.sweep(set_aside=lambda path: None) == []
    assert payload.exists(), "VMs stand on it"
    assert not await install(store, make_plugin("web"))
    assert [plugin.name for plugin in store.list_all()] == ["other", "web"]


def test_versions_sort_as_semver_says() -> None:
    ordered = [
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
    ]
    ordered += ["1.0.0", "1.2.0", "1.10.0"]
    shuffled = [*ordered[4:], *ordered[:4]]
    assert sorted(shuffled, key=version_key) == ordered
