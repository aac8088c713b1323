# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_plugin
from volant.contract.names import is_version
from volant.errors import InvalidInput, NotFound
from volant.plugin_sources.source import (
    Build,
    Image,
    Installed,
    PluginFile,
    complete_reference,
    find_image,
    find_source,
    name_image,
    read_archive,
    read_path,
)


@pytest.mark.parametrize(
    ("reference", "whole"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("grafana/grafana:11.0.0", "docker.io/grafana/grafana:11.0.0"),
        ("ghcr.io/a/b", "ghcr.io/a/b"),
        ("localhost/a:1", "localhost/a:1"),
        ("localhost:5000/a", "localhost:5000/a"),
        ("docker-daemon:app:1", "docker-daemon:app:1"),
    ],
)
def test_references_are_completed_as_docker_completes_them(reference: str, whole: str) -> None:
    assert complete_reference(reference) == whole


@pytest.mark.parametrize(
    ("reference", "tag"),
    [
        ("nginx", "nginx:0.1.0+latest"),
        ("docker.io/library/nginx:1.27", "nginx:0.1.0+1.27"),
        ("docker.io/nginx:1.27.4", "nginx:1.27.4"),
        ("grafana/grafana:11.0.0-rc.1", "grafana-grafana:11.0.0-rc.1"),
        ("ghcr.io/Owner/app:v1_2", "ghcr-io-owner-app:0.1.0+v1-2"),
        ("localhost:5000/app", "localhost-5000-app:0.1.0+latest"),
        ("app@sha256:0123456789abcdef0123", "app:0.1.0+sha256-0123456789ab"),
    ],
)
def test_an_images_plugin_is_named_after_where_it_is_from(reference: str, tag: str) -> None:
    assert name_image(reference) == tag
    assert is_version(tag.partition(":")[2])


def write_tar(path: Path, **files: str) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", ".").replace("_", "-"))
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_archives_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.tar.gz"
    plugin.write_bytes(make_plugin())
    assert read_archive(plugin) == PluginFile(plugin)
    saved = write_tar(tmp_path / "saved.tar", layer="x", manifest__json=json.dumps([{"Config": "c"}]))
    assert read_archive(saved) == Build(("--docker-archive", str(saved)))
    layout = write_tar(tmp_path / "oci.tar", oci_layout="{}", index__json="{}")
    assert read_archive(layout) == Build(("--oci-archive", str(layout)))
    with pytest.raises(InvalidInput, match="neither a plugin nor an image"):
        read_archive(write_tar(tmp_path / "other.tar", file="x"))
    plugin.write_bytes(plugin.read_bytes()[:20])
    with pytest.raises(InvalidInput, match="cannot read"):
        read_archive(plugin)


def test_paths_are_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    (tmp_path / "fledge.toml").touch()
    assert read_path(tmp_path) == Build((str(tmp_path),))
    assert read_path(tmp_path / "Dockerfile") == Build((str(tmp_path / "Dockerfile"),))
    assert read_path(tmp_path / "fledge.toml") == Build(("--config", str(tmp_path / "fledge.toml")))
    (tmp_path / "oci-layout").touch()
    assert read_path(tmp_path) == Build(("--oci-layout", str(tmp_path)))
    with pytest.raises(NotFound, match="it is not there"):
        read_path(tmp_path / "nothing")


def test_what_a_word_means(daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "both").mkdir()
    daemon.install("both")
    assert find_source("both", daemon.client) == Installed("both")
    assert find_source("both:1.0.0", daemon.client) == Installed("both:1.0.0")
    assert find_source("./both", daemon.client) == Build(("both",))
    assert find_source("here", daemon.client) == Build(("here",))
    assert find_source("nginx:1.27", daemon.client) == Image("nginx:1.27", "nginx:0.1.0+1.27")
    assert find_source("docker://ghcr.io/a/b:2", daemon.client) == Image(
        "docker://ghcr.io/a/b:2", "ghcr-io-a-b:0.1.0+2"
    )
    with pytest.raises(NotFound):
        find_source("Dockerfile", daemon.client)


def test_what_somebody_else_names_is_no_path_of_this_machine(
    daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "Dockerfile").touch()
    daemon.install("both")
    assert find_image("both:1.0.0", daemon.client) == Installed("both:1.0.0")
    assert find_image("here", daemon.client) == Image("docker.io/library/here", "here:0.1.0+latest")
    for text in (
        "nginx:1.27", "registry.example.com:5000/team/web:1.2.0", "[::1]:5000/a/b", f"a@sha256:{'0' * 64}",
        "oci:layout", "containers-storage:web", "docker-archive:backup.tar",
    ):  # fmt: skip
        found = find_image(text, daemon.client)
        assert isinstance(found, Image)
        assert complete_reference(found.reference) == found.reference
        assert "/" in found.reference.split(":")[0] or found.reference.startswith(("registry.", "["))
        assert found.tag.startswith(name_image(text))
    found = find_image("docker://quay.io/a/b:1", daemon.client)
    assert isinstance(found, Image) and found.reference == "quay.io/a/b:1"
    assert re.fullmatch(r"quay-io-a-b:0\.1\.0\+1\.[0-9a-f]{12}", found.tag)
    alike = ("a/b", "a-b", "a-b:1.0_1", "a-b:1.0-1", "x/a/b:1", "x-a/b:1", "x.a/b:1", "x/a.b:1")
    tags = {image.tag for text in alike if isinstance(image := find_image(text, daemon.client), Image)}
    assert len(tags) == len(alike), "what one calls by its name is nobody else's image"
    for text in (
        "./here", "/etc", "~/x", "../here", "here/", "x/../etc", "docker-archive:/srv/backup.tar", "oci:/srv/layout",
        "oci:5000/layout", "docker-daemon:web:1", "-o/etc/passwd", "--help", "http://a/b", "a b", "", "A", "a\nb",
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="image reference"):
            find_image(text, daemon.client)
