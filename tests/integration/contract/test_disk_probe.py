# SPDX-License-Identifier: Apache-2.0
"""Whatever header we take, QEMU takes too; and what we take reaches no other file."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from volant.contract.disk_probe import DiskImage, probe_disk
from volant.errors import InvalidInput

OPTIONS = (
    "compat=0.10",
    "compat=1.1",
    "cluster_size=4k",
    "extended_l2=on",
    "lazy_refcounts=on",
    "compression_type=zstd",
)
HEADER_BYTES = 200
INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF)


def make_image(path: Path, *options: str) -> Path:
    arguments = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path)]
    subprocess.run(arguments if "-b" in options else [*arguments, "64M"], check=True)
    return path


def probe(path: Path) -> DiskImage:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return probe_disk(descriptor, path.stat().st_size)
    finally:
        os.close(descriptor)


def ask_qemu(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", str(path)], capture_output=True, text=True
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_images_as_qemu_makes_them_are_taken(option: str, tmp_path: Path) -> None:
    assert probe(make_image(tmp_path / "disk", "-o", option)) == DiskImage("qcow2", 64 << 20, "kernel")


@pytest.mark.parametrize("option", OPTIONS)
def test_no_damaged_header_is_taken_that_qemu_refuses(option: str, tmp_path: Path) -> None:
    whole = make_image(tmp_path / "disk", "-o", option).read_bytes()
    chance = random.Random(option)
    taken = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 2)):
            damaged[chance.randrange(4, HEADER_BYTES)] = chance.choice(INTERESTING)
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        try:
            found = probe(path)
        except InvalidInput:
            continue
        # Most of these differ in fields without a meaning: a part of them is enough.
        taken += 1
        if taken % 8:
            continue
        told = ask_qemu(path)
        assert told.returncode == 0, (told.stderr, [i for i, byte in enumerate(damaged) if byte != whole[i]])
        assert json.loads(told.stdout)["virtual-size"] == found.virtual_size_bytes // 512 * 512
        assert "backing-filename" not in told.stdout


def test_images_that_lean_on_others_are_refused(tmp_path: Path) -> None:
    base = make_image(tmp_path / "base")
    leaning = make_image(tmp_path / "leaning", "-F", "qcow2", "-b", str(base))
    with pytest.raises(InvalidInput, match="backing file"):
        probe(leaning)
    outside = make_image(tmp_path / "outside", "-o", f"data_file={tmp_path}/data")
    with pytest.raises(InvalidInput, match="another file"):
        probe(outside)


def test_snapshots_and_bitmaps_inside_are_refused_with_a_way_out(tmp_path: Path) -> None:
    snapped = make_image(tmp_path / "snapped")
    subprocess.run(["qemu-img", "snapshot", "-c", "one", str(snapped)], check=True)
    marked = make_image(tmp_path / "marked")
    subprocess.run(["qemu-img", "bitmap", "--add", str(marked), "one"], check=True)
    for image in (snapped, marked):
        with pytest.raises(InvalidInput) as caught:
            probe(image)
        assert "qemu-img convert" in caught.value.resolution
        flat = tmp_path / "flat"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(image), str(flat)], check=True)
        probe(flat)
