# SPDX-License-Identifier: Apache-2.0
"""Images of every size, converted by the real command and booted from the disks that it wrote (Debian's is in
test_line.py): busybox alone, one static binary on scratch, a gigabyte of content."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from support.busybox_image import make_busybox_tar
from support.guest_harness import GuestHarness, make_harness
from support.oci_images import make_config, make_entry, make_layer, write_docker_archive, write_layout
from volant.contract.plugin_archive import read_plugin_archive

FILES, FILE_BYTES, PIECE_BYTES = 16, 64 << 20, 1 << 16
BATCH = {"workload": {"type": "batch"}}
ENDED = "the workload has ended with 0: powering off"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("guests"))


def convert(folder: Path, *source: str | Path, disk_format: str = "qcow2") -> Path:
    """The disk of the plugin that `fledge build` makes, under an overlay as a VM has it."""
    command = [
        sys.executable,
        "-m",
        "volant.fledge.cli",
        "build",
        *map(str, source),
        "-o",
        "p.tar.gz",
        "--no-cache",
        "-q",
    ]
    subprocess.run(command, cwd=folder, check=True, timeout=800)
    with (folder / "p.tar.gz").open("rb") as plugin, (folder / "rootfs").open("w+b") as disk:
        content = read_plugin_archive(plugin, disk.fileno())
    assert content.manifest.rootfs is not None and content.manifest.rootfs.format == disk_format
    (folder / "p.tar.gz").unlink()
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", disk_format, "-b", "rootfs", "overlay.qcow2"]
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return folder / "overlay.qcow2"


def test_busybox_alone(harness: GuestHarness, tmp_path: Path) -> None:
    layer = make_busybox_tar(tmp_path / "base.tar").read_bytes()
    script = "echo $GREETING from $(pwd) as $(busybox id -u):$(busybox id -g); cat /proc/1/comm; busybox df /"
    layout = write_layout(
        tmp_path / "layout", [layer], compression="gzip",
        config={"Cmd": ["sh", "-c", script], "Env": ["GREETING=hello"], "WorkingDir": "/srv/app", "User": "1000:50"},
    )  # fmt: skip
    console = harness.run(convert(tmp_path, "--oci-layout", layout), network=False, settings=BATCH)
    assert "[workload] hello from /srv/app as 1000:50" in console, console
    assert "[workload] kestrel" in console
    assert ENDED in console


@pytest.mark.parametrize(
    ("disk_format", "runtime"),
    [
        ("qcow2", ""),
        ("qcow2", 'compression = "zlib"'),
        ("qcow2", "qcow2_compression = false"),
        ("raw", 'format = "raw"'),
    ],
)
@pytest.mark.guide("6-1")
def test_one_static_binary_on_scratch(
    harness: GuestHarness, tmp_path: Path, disk_format: str, runtime: str
) -> None:
    layer = make_layer(make_entry("app", content=harness.agent.read_bytes(), mode=0o755))
    write_docker_archive(tmp_path / "i.tar", [layer], config={"Entrypoint": ["/app"], "Cmd": ["version"]})
    (tmp_path / "fledge.toml").write_text(
        '[plugin]\nname = "app"\nversion = "1.0.0"\n[plugin.runtime]\nsource = "docker-archive:i.tar"\n'
        f'disk_size = "128M"\n{runtime}\n'
    )
    console = harness.run(
        convert(tmp_path, disk_format=disk_format), network=False, memory_mb=128, settings=BATCH
    )
    assert "[workload] kestrel " in console, console
    assert ENDED in console and "warning" not in console, console


def write_large_archive(folder: Path) -> Path:
    """A docker-archive of busybox and a gigabyte in files of 64 MiB, every piece of which says where it belongs."""
    base, large = make_busybox_tar(folder / "base.tar"), folder / "large.tar"
    noise = random.Random(1).randbytes(1 << 14)
    with tarfile.open(large, "w") as layer:
        for number in range(FILES):
            pieces = (
                b"%06d\n" % (number * (FILE_BYTES // PIECE_BYTES) + piece) + noise
                for piece in range(FILE_BYTES // PIECE_BYTES)
            )
            info = tarfile.TarInfo(f"data-{number:02}")
            info.size = FILE_BYTES
            layer.addfile(info, io.BytesIO(b"".join(piece.ljust(PIECE_BYTES, b".") for piece in pieces)))
    places = " ".join(f"{number * 1024 + piece}" for number in range(FILES) for piece in (0, 511, 1023))
    script = f"""
        for file in /data-*; do busybox dd if=$file of=/dev/null bs=1M; done 2>&1 | busybox grep -c "^64+0 records in"
        for place in {places}; do
            file=$(printf /data-%02d $((place / 1024)))
            found=$(busybox dd if=$file bs={PIECE_BYTES} skip=$((place % 1024)) count=1 2>/dev/null | busybox head -c 6)
            test $found = $(printf %06d $place) || {{ echo piece $place is $found; exit 1; }}
        done
        echo every piece is in its place
    """
    config = make_config([base.read_bytes(), large.read_bytes()], {"Cmd": ["sh", "-c", script]})
    listing = json.dumps(
        [{"Config": "config.json", "RepoTags": ["large:1.0.0"], "Layers": ["base.tar", "large.tar"]}]
    )
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as output:
        for layer_path in (base, large):
            output.add(layer_path, layer_path.name)
        for name, content in (("config.json", config), ("manifest.json", listing.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            output.addfile(info, io.BytesIO(content))
    large.unlink()
    return archive


@pytest.mark.guide("1-7")
def test_a_gigabyte(harness: GuestHarness, tmp_path: Path) -> None:
    archive = write_large_archive(tmp_path)
    disk = convert(tmp_path, "--docker-archive", archive)
    archive.unlink()
    console = harness.run(disk, network=False, settings=BATCH)
    assert f"[workload] {FILES}\n" in console, console
    assert "[workload] every piece is in its place" in console, console
    assert ENDED in console
