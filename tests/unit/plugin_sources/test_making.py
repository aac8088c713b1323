# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_initramfs, make_plugin
from volant.errors import NotFound
from volant.plugin_sources import making
from volant.plugin_sources.making import BuildOptions, find_local_image
from volant.plugin_sources.workplace import Terminal


class Fledge(Terminal):
    """Stands for the program: writes what it is told to have built, under the name that --tag gives."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name, content
        self.calls: list[list[str]] = []

    def run_fledge(self, arguments: Sequence[str]) -> None:
        self.calls.append(list(arguments))
        options = dict(itertools.pairwise(arguments))
        name, _, version = options.get("--tag", f"{self.name}:1.0.0").partition(":")
        payload = make_initramfs(self.content)
        plugin = gzip.compress(gzip.decompress(make_plugin(name, version, payload=payload)), mtime=0)
        Path(options["--output"]).write_bytes(plugin)


@pytest.fixture
def no_local_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "find_tool", lambda name: None)


def test_a_folder_is_built_and_one_that_changed_goes_by_its_bytes(
    daemon: InProcessDaemon,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fledge = Fledge("app", b"first")
    source = f"{tmp_path}/"
    assert (
        making.make_plugin(daemon.client, source, BuildOptions(build_arg=("A=1",)), workplace=fledge)
        == "app:1.0.0"
    )
    assert fledge.calls[0][:3] == [str(tmp_path), "--build-arg", "A=1"]
    assert making.make_plugin(daemon.client, source, BuildOptions(), workplace=fledge) == "app:1.0.0"
    fledge.content = b"second"
    changed = making.make_plugin(daemon.client, source, BuildOptions(), workplace=fledge)
    assert changed.startswith("app:1.0.0+")
    assert "another app 1.0.0" in capsys.readouterr().err
    assert daemon.client.get_plugin(changed)["version"] == changed.removeprefix("app:")
    count = len(fledge.calls)
    assert making.make_plugin(daemon.client, source, BuildOptions(), workplace=fledge) == changed
    assert len(fledge.calls) == count + 1, "the same bytes are not built a second time"


@pytest.mark.usefixtures("no_local_images")
def test_an_image_is_fetched_once(daemon: InProcessDaemon) -> None:
    fledge = Fledge("", b"image")
    with pytest.raises(NotFound, match="--pull never"):
        making.make_plugin(daemon.client, "redis:7", BuildOptions(pull="never"), workplace=fledge)
    assert making.make_plugin(daemon.client, "redis:7", BuildOptions(), workplace=fledge) == "redis:0.1.0+7"
    assert fledge.calls[0][:4] == ["--image", "docker.io/library/redis:7", "--tag", "redis:0.1.0+7"]
    assert making.make_plugin(daemon.client, "redis:7", BuildOptions(), workplace=fledge) == "redis:0.1.0+7"
    assert len(fledge.calls) == 1
    assert (
        making.make_plugin(daemon.client, "redis:7", BuildOptions(pull="always"), workplace=fledge)
        == "redis:0.1.0+7"
    )
    assert len(fledge.calls) == 2


def test_a_plugins_file_is_installed(daemon: InProcessDaemon, tmp_path: Path) -> None:
    path = tmp_path / "given.tar.gz"
    path.write_bytes(make_plugin("given", "2.0.0"))
    assert making.make_plugin(daemon.client, str(path), BuildOptions()) == "given:2.0.0"


@pytest.mark.parametrize(
    ("present", "found"),
    [
        ({"docker", "podman"}, "docker-daemon:app:1"),
        ({"podman"}, "containers-storage:app:1"),
        ({"buildah"}, "containers-storage:app:1"),
        (set(), None),
    ],
)
def test_images_of_this_machine_come_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: set[str], found: str | None
) -> None:
    for name in ("docker", "podman", "buildah"):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\nexit {0 if name in present else 1}\n")
        tool.chmod(0o755)
    monkeypatch.setattr(making, "find_tool", lambda name: str(tmp_path / name))
    assert find_local_image("app:1") == found
    assert find_local_image("docker://app:1") is None


def test_arguments_for_the_build() -> None:
    assert BuildOptions("always", "linux/arm64", ("A=1", "B")).arguments == [
        "--platform", "linux/arm64", "--build-arg", "A=1", "--build-arg", "B",
    ]  # fmt: skip
