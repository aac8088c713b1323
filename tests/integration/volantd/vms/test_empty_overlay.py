# SPDX-License-Identifier: Apache-2.0
"""Overlays of ours against qemu-img: the same disk, and one that its check finds nothing wrong with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from volant.volantd.vms.empty_overlay import write_empty_overlay


def run(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("size_bytes", [512, (1 << 29) - 512, 10 << 30, 5 << 40])
def test_an_overlay_is_what_qemu_img_makes(tmp_path: Path, size_bytes: int) -> None:
    backing = tmp_path / "backing, with a comma.raw"
    backing.write_bytes(b"below" * 1000)
    os.truncate(backing, 8192)
    ours, theirs = tmp_path / "ours.qcow2", tmp_path / "theirs.qcow2"
    descriptor = os.open(ours, os.O_RDWR | os.O_CREAT)
    try:
        write_empty_overlay(descriptor, backing, "raw", size_bytes)
    finally:
        os.close(descriptor)
    run(
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        str(backing),
        str(theirs),
        str(size_bytes),
    )
    run("qemu-img", "check", "-q", str(ours))
    seen = []
    for path in (ours, theirs):
        information = json.loads(run("qemu-img", "info", "--output=json", str(path)))
        names = ("virtual-size", "cluster-size", "format", "full-backing-filename", "backing-filename-format")
        seen.append([information[name] for name in names])
    assert seen[0] == seen[1]
    if size_bytes >= 8192:
        run("qemu-io", "-c", "write -P 7 4096 4096", str(ours))
        run("qemu-img", "check", "-q", str(ours))
        assert "read 4096" in run("qemu-io", "-c", "read -P 7 4096 4096", str(ours))
