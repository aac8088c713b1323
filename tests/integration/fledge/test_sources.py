# SPDX-License-Identifier: Apache-2.0
"""Images as real tools save, store and hand them out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.image_registry import start_registry
from support.oci_images import make_entry, make_layer, write_docker_archive, write_layout
from volant.errors import Unreachable, VolantError
from volant.fledge.image import OciImage
from volant.fledge.layers import merge_layers
from volant.fledge.sources.archive import open_docker_archive, open_oci_archive, open_oci_layout
from volant.fledge.sources.reference import fetch_reference
from volant.progress import SilentMonitor

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not on this machine")
LAYERS = [make_layer(make_entry("a", content=b"A" * 10_000)), make_layer(make_entry("b/c", content=b"C"))]
HEALTH = {"Test": ["CMD", "/check"], "Interval": 7_000_000_000}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    config = {"Entrypoint": ["/app"], "Healthcheck": HEALTH}
    return write_layout(tmp_path / "layout", LAYERS, compression="gzip", config=config)


def skopeo(*arguments: str | Path) -> None:
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *arguments], check=True)


def check_content(image: OciImage, stack: ExitStack) -> None:
    tree = merge_layers(image, stack, SilentMonitor())
    image.verify()
    assert [path for path, _ in tree.walk() if path] == [b"a", b"b", b"b/c"]
    assert image.config.entrypoint == ["/app"]
    node = tree.find("a")
    assert node is not None and tree.read(node) == b"A" * 10_000


def test_archives_that_skopeo_writes(layout: Path, tmp_path: Path) -> None:
    source = f"oci:{layout}:latest"
    skopeo(source, f"docker-archive:{tmp_path / 'docker.tar'}:my-app:1.2.0")
    skopeo(source, f"oci-archive:{tmp_path / 'oci.tar'}:my-app")
    skopeo("--dest-compress-format", "zstd", source, f"oci:{tmp_path / 'zstd'}:my-app")
    with ExitStack() as stack:
        image = open_docker_archive(tmp_path / "docker.tar", stack)
        assert image.reference.endswith("my-app:1.2.0")
        check_content(image, stack)
        check_content(open_oci_archive(tmp_path / "oci.tar", stack), stack)
        check_content(open_oci_layout(tmp_path / "zstd", stack), stack)
        check_content(fetch_reference(f"oci:{layout}:latest", stack, SilentMonitor()), stack)


@pytest.mark.skipif(os.geteuid() != 0, reason="a storage folder of its own needs root or a user namespace")
def test_podman_storage_and_what_podman_saves(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path / "graph"}"\nrunroot = "{tmp_path / "run"}"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
    skopeo(f"oci:{layout}:latest", "containers-storage:localhost/my-app:1.2.0")
    with ExitStack() as stack:
        image = fetch_reference("containers-storage:localhost/my-app:1.2.0", stack, SilentMonitor())
        check_content(image, stack)
        fetched = [entry for entry in os.listdir(os.environ.get("TMPDIR", "/var/tmp")) if "fledge-" in entry]
        assert fetched
        if shutil.which("podman"):
            saved = tmp_path / "saved.tar"
            subprocess.run(["podman", "save", "-q", "-o", saved, "localhost/my-app:1.2.0"], check=True)
            image = open_docker_archive(saved, stack)
            assert image.reference == "localhost/my-app:1.2.0"
            check_content(image, stack)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with start_registry(tmp_path) as address:
        yield address


def test_registry_and_a_healthcheck_that_survives_fetching(registry: str, tmp_path: Path) -> None:
    """skopeo's `oci:` destination would drop the health check."""
    archive = write_docker_archive(
        tmp_path / "i.tar", LAYERS, config={"Entrypoint": ["/app"], "Healthcheck": HEALTH}
    )
    name = f"{registry}/team/my-app:1.2.0"
    skopeo("--dest-tls-verify=false", f"docker-archive:{archive}", f"docker://{name}")
    with ExitStack() as stack:
        for reference in (name, f"docker://{name}"):
            image = fetch_reference(reference, stack, SilentMonitor(), platform="linux/amd64")
            assert image.reference == name
            assert image.config.healthcheck is not None and image.config.healthcheck.test == ["CMD", "/check"]
            assert all(layer.digest != layer.diff_id for layer in image.layers), (
                "registries hold compressed layers"
            )
            check_content(image, stack)
        with pytest.raises(VolantError, match="no-such-image"):
            fetch_reference(f"{registry}/no-such-image", stack, SilentMonitor())


def test_unreachable_registry_is_told_as_such() -> None:
    with ExitStack() as stack, pytest.raises(Unreachable, match=r"127\.0\.0\.1:1/app") as caught:
        fetch_reference("docker://127.0.0.1:1/app:1", stack, SilentMonitor())
    assert "network" in caught.value.resolution


def test_nothing_stays_behind_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(VolantError), ExitStack() as stack:
        fetch_reference("containers-storage:localhost/there-is-no-such-image", stack, SilentMonitor())
    assert list(tmp_path.iterdir()) == []
