# SPDX-License-Identifier: Apache-2.0
"""From small images to whole plugins; nothing here needs a builder."""

from __future__ import annotations

import hashlib
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.oci_images import make_entry, make_layer, write_docker_archive, write_layout
from support.remembering_monitor import RememberingMonitor
from volant.errors import InvalidInput, UsageError
from volant.fledge import pipeline
from volant.fledge.build import build_plugin
from volant.fledge.guest import install_guest
from volant.fledge.order import BuildOrder, CommandLine, make_order
from volant.fledge.pipeline import BuiltPlugin

LAYER = make_layer(
    make_entry("bin", tarfile.DIRTYPE),
    make_entry("bin/app", content=b"#!", mode=0o755, mtime=1_600_000_000),
    make_entry("etc/passwd", content=b"root:x:0:0::/:\n"),
)
CONFIG = {
    "Cmd": ["/bin/app"], "ExposedPorts": {"22/tcp": {}, "8080/tcp": {}}, "StopSignal": "SIGINT",
    "Labels": {"org.opencontainers.image.description": "An app", "a": "1", "io.buildah.version": "1"},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("agent")


def build(monitor: RememberingMonitor, **line: Any) -> BuiltPlugin:
    return build_plugin(make_order(CommandLine(**line)), monitor)


def read(plugin: Path) -> tuple[dict[str, Any], list[str]]:
    with tarfile.open(plugin) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        return json.loads(manifest.read()), names


@pytest.fixture
def archive(home: Path) -> Path:
    return write_docker_archive(home / "image.tar", [LAYER], config=CONFIG, tags=["my-app:1.2.0"])


def test_an_image_alone_is_enough(archive: Path, home: Path, monitor: RememberingMonitor) -> None:
    built = build(monitor, docker_archive="image.tar")
    assert built == BuiltPlugin(
        Path("my-app.tar.gz"), "my-app", "1.2.0", (home / "my-app.tar.gz").stat().st_size
    )
    manifest, names = read(home / "my-app.tar.gz")
    assert names == ["manifest.json", "rootfs.qcow2"]
    assert manifest["description"] == "An app"
    assert manifest["workload"] == {"type": "http", "port": 8080, "entrypoint": [], "env": {}}
    assert manifest["labels"] == {"a": "1", "org.opencontainers.image.description": "An app"}
    assert manifest["rootfs"]["format"] == "qcow2"
    with tarfile.open(home / "my-app.tar.gz") as plugin:
        disk = plugin.extractfile("rootfs.qcow2")
        assert disk is not None
        assert manifest["rootfs"]["checksum"] == "sha256:" + hashlib.sha256(disk.read()).hexdigest()


def test_the_recipe_wins_over_the_image(archive: Path, home: Path, monitor: RememberingMonitor) -> None:
    (home / "fledge.toml").write_text(
        '[plugin]\nname = "web"\nversion = "2.0.0"\ndescription = "Mine"\n[plugin.runtime]\n'
        'format = "raw"\ndisk_size = "64M"\n'
        '[plugin.manifest]\nworkload.type = "tcp"\nworkload.port = 22\nworkload.env = {A = "b"}\n'
        'labels = {a = "2"}\nresources.cpu_cores = 4\nhealth_check.endpoint = "/ok"\n'
    )
    build(monitor, docker_archive="image.tar")
    manifest, names = read(home / "web.tar.gz")
    assert names == ["manifest.json", "rootfs.img"]
    assert (manifest["name"], manifest["version"], manifest["description"]) == ("web", "2.0.0", "Mine")
    assert manifest["workload"] == {"type": "tcp", "port": 22, "entrypoint": [], "env": {"A": "b"}}
    assert manifest["labels"]["a"] == "2"
    assert manifest["resources"] == {"vcpu": 4, "memory_mb": 256, "nested": False}
    assert manifest["health_check"]["endpoint"] == "/ok"


def test_a_type_without_a_port_takes_it_from_expose(
    archive: Path, home: Path, monitor: RememberingMonitor
) -> None:
    (home / "fledge.toml").write_text(
        '[plugin]\nname = "web"\nversion = "2.0.0"\n[plugin.manifest]\nworkload.type = "tcp"\n'
    )
    build(monitor, docker_archive="image.tar")
    assert read(home / "web.tar.gz")[0]["workload"]["port"] == 8080


@pytest.mark.parametrize(
    ("tags", "name", "version"),
    [(["web:latest"], "web", "0.1.0"), (["localhost/web:v3.1.4"], "web", "3.1.4"), ([], "image", "0.1.0")],
)
def test_names_from_tags(
    home: Path, monitor: RememberingMonitor, tags: list[str], name: str, version: str
) -> None:
    write_docker_archive(home / "image.tar", [LAYER], config=CONFIG, tags=tags)
    built = build(monitor, docker_archive="image.tar")
    assert (built.name, built.version) == (name, version)
    assert f"plugin: {name} {version}" in monitor.text


def test_the_same_image_is_the_same_plugin_whatever_it_came_in(
    home: Path, monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_docker_archive(home / "image.tar", [LAYER], config=CONFIG, tags=["app:1.0.0"])
    write_layout(home / "layout", [LAYER], config=CONFIG, compression="gzip", name="app:1.0.0")
    plugins = []
    for cores, line in ((1, {"docker_archive": "image.tar"}), (4, {"oci_layout": "layout"})):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        built = build(monitor, **line, use_cache=False, output=f"{cores}.tar.gz")
        plugins.append(built.path.read_bytes())
    assert plugins[0] == plugins[1]


def test_nothing_is_converted_twice(
    archive: Path, home: Path, monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(monitor, docker_archive="image.tar")
    content = first.path.read_bytes()

    def fail(*_: object) -> None:
        raise AssertionError("converted again")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "merge_layers", fail)
        again = build(monitor, docker_archive="image.tar", output="again.tar.gz")
        assert (again.from_cache, again.name, again.version) == (True, "my-app", "1.2.0")
        assert again.path.read_bytes() == content
        for changed in ({"use_cache": False}, {"format": "raw"}):
            with pytest.raises(AssertionError, match="converted again"):
                build(monitor, docker_archive="image.tar", **changed)
    assert "comes from the cache" in monitor.text


def verdict(monitor: RememberingMonitor, **line: Any) -> bytes | None:
    """The plugin, or nothing where the image is refused."""
    try:
        return build(monitor, **line).path.read_bytes()
    except InvalidInput:
        return None


@pytest.mark.parametrize("form", ["docker-archive", "gzip-layout"])
def test_the_cache_never_answers_for_a_damaged_image(
    home: Path, monitor: RememberingMonitor, form: str
) -> None:
    layer = make_layer(make_entry("app", content=random.Random(1).randbytes(20_000), mode=0o755))
    if form == "docker-archive":
        damaged = write_docker_archive(home / "image.tar", [layer], config=CONFIG)
        line: dict[str, Any] = {"docker_archive": "image.tar"}
    else:
        layout = write_layout(home / "layout", [layer], config=CONFIG, compression="gzip", name="app:1.0.0")
        damaged = max((layout / "blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
        line = {"oci_layout": "layout"}
    whole = build(monitor, **line).path.read_bytes()
    content, chosen, refused = damaged.read_bytes(), random.Random(2), 0
    for _ in range(25):
        changed = bytearray(content)
        changed[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        damaged.write_bytes(changed)
        cached = verdict(monitor, **line, output="cached.tar.gz")
        assert cached == verdict(monitor, **line, output="full.tar.gz", use_cache=False)
        refused += cached != whole
    assert refused >= 15, "what is left are bytes that mean nothing"
    damaged.write_bytes(content)
    assert build(monitor, **line).from_cache


def test_another_agent_or_mapping_is_another_plugin(
    archive: Path, agent: Path, home: Path, monitor: RememberingMonitor
) -> None:
    (home / "page").write_text("1")
    (home / "fledge.toml").write_text(
        '[plugin]\nname = "web"\nversion = "2.0.0"\n[mappings]\npage = "/srv/page"\n'
    )
    assert not build(monitor, docker_archive="image.tar").from_cache
    assert build(monitor, docker_archive="image.tar").from_cache
    (home / "page").write_text("2")
    assert not build(monitor, docker_archive="image.tar").from_cache
    agent.write_text("#!/bin/sh\n# another build\n")
    assert not build(monitor, docker_archive="image.tar").from_cache


def test_damaged_layers_are_never_published(home: Path, monitor: RememberingMonitor) -> None:
    path = write_docker_archive(home / "image.tar", [LAYER], config=CONFIG)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"root:x:0", b"root:y:0"))
    with pytest.raises(InvalidInput, match="not what its digest promises"):
        build(monitor, docker_archive="image.tar")
    assert [path.name for path in home.iterdir()] == ["image.tar"]


def test_an_interruption_leaves_nothing(
    archive: Path, home: Path, monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int, *_: object) -> None:
        os.write(descriptor, b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_disk_plugin", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(monitor, docker_archive="image.tar")
    assert [path.name for path in home.iterdir()] == ["image.tar"]


def test_a_place_that_cannot_be_written_is_refused_at_once(
    archive: Path, home: Path, monitor: RememberingMonitor
) -> None:
    with pytest.raises(UsageError, match=r"cannot write gone/x\.tar\.gz: no such folder"):
        build(monitor, docker_archive="image.tar", output="gone/x.tar.gz")
    (home / "folder").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        build(monitor, docker_archive="image.tar", output="folder")


def test_an_initramfs_of_mappings_alone(home: Path, monitor: RememberingMonitor) -> None:
    (home / "page").write_text("hello")
    (home / "fledge.toml").write_text(
        '[plugin]\nname = "ram"\nversion = "1.0.0"\n[plugin.runtime]\ntype = "initramfs"\n'
        '[plugin.manifest]\nworkload.entrypoint = ["/page"]\n[mappings]\npage = "/page"\n'
    )
    build(monitor)
    manifest, names = read(home / "ram.tar.gz")
    assert names == ["manifest.json", "initramfs.cpio.gz"]
    assert "rootfs" not in manifest
    first = (home / "ram.tar.gz").read_bytes()
    build_plugin(make_order(CommandLine(use_cache=False)), monitor)
    assert (home / "ram.tar.gz").read_bytes() == first


def test_what_fledge_adds_is_as_old_as_the_image_or_as_told(
    archive: Path, home: Path, monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps: list[int] = []
    install = install_guest

    def spy(tree: Any, config: Any, agent: Any, mappings: Any, stamp: int, *rest: Any) -> None:
        stamps.append(stamp)
        install(tree, config, agent, mappings, stamp, *rest)

    monkeypatch.setattr(pipeline, "install_guest", spy)
    build(monitor, docker_archive="image.tar", use_cache=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    build(monitor, docker_archive="image.tar", use_cache=False)
    assert stamps == [1_600_000_000, 1_700_000_000]


def test_images_for_other_machines_are_refused(home: Path, monitor: RememberingMonitor) -> None:
    write_layout(home / "layout", [LAYER], config=CONFIG, architecture="s390x")
    with pytest.raises(InvalidInput, match="s390x"):
        build(monitor, oci_layout="layout")


def test_an_order_can_be_made_by_hand(archive: Path, home: Path, monitor: RememberingMonitor) -> None:
    order = make_order(CommandLine(docker_archive="image.tar"))
    assert isinstance(order, BuildOrder)
    assert order.name is None
