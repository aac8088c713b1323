# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from volant.errors import NotPermitted, UsageError
from volant.fledge.order import ArchiveSource, BuildOrder, DockerfileSource
from volant.output_file import find_output, read_output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_link_is_followed(home: Path) -> None:
    (home / "store").mkdir()
    (home / "plugin.tar.gz").symlink_to("store/real.tar.gz")
    assert find_output(Path("plugin.tar.gz")) == home / "store/real.tar.gz", "where it leads is not there yet"
    (home / "store/real.tar.gz").touch()
    assert find_output(Path("plugin.tar.gz")) == home / "store/real.tar.gz"
    (home / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="cannot write loop"):
        find_output(Path("loop"))
    (home / "astray").symlink_to("gone/file")
    with pytest.raises(UsageError, match="no such folder"):
        find_output(Path("astray"))


@pytest.mark.parametrize("way", ["", "link-to-"])
def test_what_is_no_regular_file_is_never_replaced(home: Path, way: str) -> None:
    os.mkfifo("fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")
    listener.close()
    for name in ("fifo", "socket", "device"):
        Path(f"link-to-{name}").symlink_to(name)
    with pytest.raises(UsageError, match="it is a FIFO"):
        find_output(Path(f"{way}fifo"))
    with pytest.raises(UsageError, match="it is a socket"):
        find_output(Path(f"{way}socket"))
    assert stat.S_ISFIFO(Path("fifo").stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_never_replaced(home: Path, kind: int) -> None:
    try:
        os.mknod("device", kind | 0o600, os.makedev(1, 3) if kind == stat.S_IFCHR else os.makedev(7, 250))
    except PermissionError:
        pytest.skip("no device nodes here")
    Path("link").symlink_to("device")
    for name in ("device", "link"):
        with pytest.raises(UsageError, match="it is a device"):
            find_output(Path(name))


def test_what_can_be_no_file_is_refused() -> None:
    for text in ("", "x/", "folder/x/"):
        with pytest.raises(UsageError, match="it names no file"):
            read_output(text)


def test_standard_output_is_refused(home: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing), pytest.raises(UsageError, match="it is a FIFO"):
        find_output(Path(f"/proc/self/fd/{writing}"))
    with pytest.raises(UsageError, match="cannot write to standard output"):
        find_output(Path("-"))
    assert find_output(Path("./-x")) == Path("-x")


def test_names_too_long_are_refused_before_the_work(home: Path) -> None:
    assert find_output(Path("n" * 255)) == Path("n" * 255)
    with pytest.raises(UsageError, match="its name of 256 bytes is longer than the 255"):
        find_output(Path("n" * 256))
    with pytest.raises(UsageError, match="cannot write"):
        find_output(Path("/".join(["folder" * 30] * 50)))
    with pytest.raises(UsageError, match="cannot write"):
        find_output(Path("a\0b"))


def test_what_the_build_reads_is_not_written(home: Path) -> None:
    (home / "image.tar").touch()
    os.link("image.tar", "other-name.tar")
    Path("link.tar").symlink_to("image.tar")
    order = BuildOrder(ArchiveSource("docker-archive", Path("image.tar")))
    for name in ("image.tar", "other-name.tar", "link.tar", str(home / "image.tar")):
        with pytest.raises(UsageError, match="the build reads it"):
            find_output(Path(name), order.inputs)


def test_recipes_dockerfiles_layouts_and_mappings_are_inputs_too(home: Path) -> None:
    for name in ("fledge.toml", "Dockerfile", "page", "layout/blobs/sha256/0", "files/a/b"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    dockerfile = BuildOrder(
        DockerfileSource(Path("Dockerfile"), Path()), recipe=Path("fledge.toml"),
        mappings=((Path("page"), "/page"), (Path("files"), "/files")),
    )  # fmt: skip
    layout = BuildOrder(ArchiveSource("oci", Path("layout")))
    for order, name in (
        (dockerfile, "Dockerfile"), (dockerfile, "fledge.toml"), (dockerfile, "page"), (dockerfile, "files/a/b"),
        (layout, "layout/blobs/sha256/0"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="the build reads it"):
            find_output(Path(name), order.inputs)
    assert find_output(Path("app.tar.gz"), dockerfile.inputs) == Path("app.tar.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(home: Path) -> None:
    (home / "closed").mkdir(mode=0o500)
    with pytest.raises(NotPermitted, match="no permission in closed"):
        find_output(Path("closed/x"))
