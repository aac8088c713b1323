# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import json
import os
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.oci_images import (
    compress,
    digest_of,
    make_config,
    make_entry,
    make_layer,
    pack_layout,
    write_docker_archive,
    write_image,
    write_index,
    write_layout,
)
from volant.errors import InvalidInput, NotFound
from volant.fledge.image import OciImage
from volant.fledge.layers import merge_layers
from volant.fledge.sources.archive import open_docker_archive, open_oci_archive, open_oci_layout
from volant.fledge.sources.reference import fetch_reference
from volant.progress import SilentMonitor

LAYERS = [make_layer(make_entry("a", content=b"A")), make_layer(make_entry("b", content=b"B"))]
CONFIG: dict[str, Any] = {
    "Entrypoint": ["/app"], "Cmd": None, "Env": ["A=1"], "User": "www-data:www-data", "WorkingDir": "/srv",
    "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT", "Labels": {"who": "me"},
    "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Retries": 2},
}  # fmt: skip


def files_of(image: OciImage, stack: ExitStack) -> list[bytes]:
    tree = merge_layers(image, stack, SilentMonitor())
    image.verify()
    return [path for path, _ in tree.walk() if path]


def write_members(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    import io

    with tarfile.open(path, "w") as archive:
        for name, target in (links or {}).items():
            archive.addfile(make_entry(name, tarfile.SYMTYPE, link=target)[0])
        for name, content in members.items():
            archive.addfile(make_entry(name, content=content)[0], io.BytesIO(content))
    return path


def test_docker_archive(tmp_path: Path) -> None:
    path = write_docker_archive(tmp_path / "i.tar", LAYERS, config=CONFIG, tags=["registry/my-app:1.2.0"])
    with ExitStack() as stack:
        image = open_docker_archive(path, stack)
        assert files_of(image, stack) == [b"a", b"b"]
    assert image.reference == "registry/my-app:1.2.0"
    assert image.labels == {"who": "me"}
    config = image.config
    assert (config.entrypoint, config.cmd, config.env, config.user) == (
        ["/app"],
        [],
        ["A=1"],
        "www-data:www-data",
    )
    assert (config.working_dir, config.stop_signal) == ("/srv", "SIGQUIT")
    assert (config.exposed_ports, config.volumes) == (["80/tcp"], ["/data"])
    assert config.healthcheck is not None and config.healthcheck.interval == 5_000_000_000


def test_compressed_docker_archive(tmp_path: Path) -> None:
    plain = write_docker_archive(tmp_path / "i.tar", LAYERS)
    path = tmp_path / "i.tar.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with ExitStack() as stack:
        assert files_of(open_docker_archive(path, stack), stack) == [b"a", b"b"]


def test_docker_archive_shares_layers_by_symlinks(tmp_path: Path) -> None:
    config = make_config([LAYERS[0], LAYERS[0]])
    name = digest_of(config).removeprefix("sha256:") + ".json"
    listing = json.dumps(
        [{"Config": name, "RepoTags": None, "Layers": ["one/layer.tar", "two/layer.tar"]}]
    ).encode()
    path = write_members(
        tmp_path / "i.tar", {name: config, "manifest.json": listing, "one/layer.tar": LAYERS[0]},
        {"two/layer.tar": "../one/layer.tar"},
    )  # fmt: skip
    with ExitStack() as stack:
        image = open_docker_archive(path, stack)
        assert (image.reference, files_of(image, stack)) == ("", [b"a"])


@pytest.mark.parametrize("config_name", ["sha256:{}", "{}.json", "blobs/sha256/{}", "config.json"])
@pytest.mark.parametrize("compression", ["plain", "gzip"])
def test_archives_of_other_builders(config_name: str, compression: str, tmp_path: Path) -> None:
    """kaniko compresses layers in a docker-archive and jib calls the config config.json."""
    config = make_config(LAYERS)
    name = config_name.format(digest_of(config).removeprefix("sha256:"))
    stored = {f"{number}.tar.gz": compress(layer, compression) for number, layer in enumerate(LAYERS)}
    listing = json.dumps([{"Config": name, "RepoTags": ["a:1"], "Layers": list(stored)}]).encode()
    with ExitStack() as stack:
        image = open_docker_archive(
            write_members(tmp_path / "i.tar", {**stored, name: config, "manifest.json": listing}), stack
        )
        assert files_of(image, stack) == [b"a", b"b"]
        assert image.digest == digest_of(config)


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_layout_as_folder_and_as_archive(compression: str, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", LAYERS, compression=compression, config=CONFIG, name="app:2")
    packed = pack_layout(layout, tmp_path / "i.tar")
    with ExitStack() as stack:
        images = [
            open_oci_layout(layout, stack),
            open_oci_archive(packed, stack),
            open_docker_archive(packed, stack),
        ]
        for image in images:
            assert files_of(image, stack) == [b"a", b"b"]
            assert (image.reference, image.digest) == ("app:2", images[0].digest)
            assert image.config.entrypoint == ["/app"]


def test_platform_is_chosen_from_an_index_and_from_a_nested_one(tmp_path: Path) -> None:
    nested = tmp_path / "nested"
    entries = [
        write_image(nested, [layer], architecture=name)
        for layer, name in zip(LAYERS, ("amd64", "arm64"), strict=True)
    ]
    attestation = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"},
                   "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}  # fmt: skip
    write_index(nested, [attestation, *entries])
    inner = (nested / "index.json").read_bytes()
    (nested / "blobs" / "sha256" / digest_of(inner).removeprefix("sha256:")).write_bytes(inner)
    for index in ([attestation, *entries], [{"digest": digest_of(inner), "size": len(inner)}]):
        write_index(nested, index)
        with ExitStack() as stack:
            for platform, files in (("linux/amd64", [b"a"]), ("arm64", [b"b"]), ("linux/arm64/v8", [b"b"])):
                image = open_oci_layout(nested, stack, platform=platform)
                assert files_of(image, stack) == files
            with pytest.raises(InvalidInput, match="no image for linux/riscv64") as caught:
                open_oci_layout(nested, stack, platform="linux/riscv64")
            assert "linux/amd64, linux/arm64" in str(caught.value)


def test_single_image_of_another_platform_only_unless_asked_otherwise(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", LAYERS, architecture="riscv64")
    archive = write_docker_archive(tmp_path / "i.tar", LAYERS)
    with ExitStack() as stack:
        assert open_oci_layout(layout, stack).config.architecture == "riscv64"
        for open_it, path in ((open_oci_layout, layout), (open_docker_archive, archive)):
            with pytest.raises(InvalidInput, match="arm64"):
                open_it(path, stack, platform="linux/arm64")


def test_several_images_need_a_tag(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    entries = []
    for layer, name in zip(LAYERS, ("one:1", "two:2"), strict=True):
        entries.append(
            {**write_image(layout, [layer]), "annotations": {"org.opencontainers.image.ref.name": name}}
        )
    write_index(layout, entries)
    with ExitStack() as stack:
        with pytest.raises(InvalidInput, match="holds 2") as caught:
            open_oci_layout(layout, stack)
        assert caught.value.resolution == f"choose one by its name, e.g. --image oci:{layout}:one:1"
        # The way that the error names works, word for word.
        reference = caught.value.resolution.split()[-1]
        assert files_of(fetch_reference(reference, stack, SilentMonitor()), stack) == [b"a"]
        assert files_of(open_oci_layout(layout, stack, tag="two:2"), stack) == [b"b"]
        with pytest.raises(NotFound, match="three"):
            open_oci_layout(layout, stack, tag="three")


def test_windows_images_are_refused(tmp_path: Path) -> None:
    config = json.dumps({"os": "windows", "rootfs": {"diff_ids": []}}).encode()
    name = digest_of(config).removeprefix("sha256:") + ".json"
    listing = json.dumps([{"Config": name, "Layers": []}]).encode()
    with ExitStack() as stack, pytest.raises(InvalidInput, match="not for Linux"):
        _ = open_docker_archive(
            write_members(tmp_path / "i.tar", {name: config, "manifest.json": listing}), stack
        ).config


def test_changed_config_is_found(tmp_path: Path) -> None:
    config = make_config(LAYERS)
    listing = json.dumps([{"Config": "0" * 64 + ".json", "Layers": []}]).encode()
    path = write_members(tmp_path / "i.tar", {"0" * 64 + ".json": config, "manifest.json": listing})
    with ExitStack() as stack, pytest.raises(InvalidInput, match="not what its digest promises"):
        open_docker_archive(path, stack)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"other": b"x"},
        {"manifest.json": b"not json"},
        {"manifest.json": b"[" * 100_000},
        {"manifest.json": b"{}"},
        {"manifest.json": b"[]"},
        {"manifest.json": b"[1]"},
        {"manifest.json": b'[{"Config": 1, "Layers": 2}]'},
        {"manifest.json": b'[{"Config": "../../etc/passwd", "Layers": []}]'},
        {"manifest.json": b'[{"Config": "missing.json", "Layers": []}]'},
        {"manifest.json": b'[{"Config": "c", "Layers": ["x"], "RepoTags": 5}]'},
        {"index.json": b"[]"},
        {"index.json": b'{"manifests": 5}'},
        {"index.json": b'{"manifests": [5]}'},
        {"index.json": b'{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}'},
        {"index.json": b'{"manifests": [{"digest": 7}]}'},
        {"index.json": b'{"manifests": [{"platform": 5, "annotations": 6}]}'},
    ],
)
def test_nonsense_is_one_clear_error(members: dict[str, bytes], tmp_path: Path) -> None:
    path = write_members(tmp_path / "i.tar", members)
    with ExitStack() as stack, pytest.raises((InvalidInput, NotFound)):
        open_docker_archive(path, stack)


def test_wrong_shapes_of_a_config_are_one_clear_error(tmp_path: Path) -> None:
    configs: list[dict[str, Any]] = [
        {"Env": 5},
        {"Entrypoint": "text"},
        {"Labels": [1]},
        {"ExposedPorts": 7},
        {"Healthcheck": {"Test": [1]}},
    ]
    for number, config in enumerate(configs):
        layout = write_layout(tmp_path / str(number), LAYERS, config=config)
        with ExitStack() as stack, pytest.raises(InvalidInput, match="config"):
            _ = open_oci_layout(layout, stack).config


def test_missing_files_and_wrong_kinds_of_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with ExitStack() as stack:
        with pytest.raises(NotFound, match=r"nowhere\.tar"):
            open_docker_archive(tmp_path / "nowhere.tar", stack)
        with pytest.raises(InvalidInput, match="not a regular file"):
            open_docker_archive(tmp_path / "fifo", stack)
        with pytest.raises(NotFound, match="nowhere"):
            open_oci_layout(tmp_path / "nowhere", stack)
        with pytest.raises(InvalidInput, match="no OCI layout"):
            open_oci_layout(tmp_path, stack)
        docker = write_docker_archive(tmp_path / "i.tar", LAYERS)
        with pytest.raises(InvalidInput, match="use --docker-archive"):
            open_oci_archive(docker, stack)


def test_descriptors_are_closed(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", LAYERS, compression="gzip")
    before = len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        files_of(open_oci_layout(layout, stack), stack)
        assert len(os.listdir("/proc/self/fd")) > before
    assert len(os.listdir("/proc/self/fd")) == before
