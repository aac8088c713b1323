# SPDX-License-Identifier: Apache-2.0
"""The overlay as qemu-img sees it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from volant.volantd.vms.disks import make_overlay, read_virtual_size


def describe(disk: Path) -> tuple[int, str]:
    done = subprocess.run(
        ["qemu-img", "info", "--output=json", str(disk)], check=True, capture_output=True, text=True
    )
    info = json.loads(done.stdout)
    return info["virtual-size"], info["backing-filename"]


def test_an_overlay_grows_and_never_shrinks(tmp_path: Path) -> None:
    backing, overlay = tmp_path / "base.img", tmp_path / "root.qcow2"
    backing.write_bytes(b"\0" * (1 << 20))
    make_overlay(overlay, backing, "raw", None)
    assert describe(overlay) == (1 << 20, str(backing))
    for wanted, expected in ((3 << 20, 3 << 20), (2 << 20, 3 << 20), (None, 3 << 20)):
        make_overlay(overlay, backing, "raw", wanted)
        assert describe(overlay) == (expected, str(backing))
        assert read_virtual_size(overlay) == expected
    subprocess.run(["qemu-img", "check", "-q", str(overlay)], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"base.img", "root.qcow2"}
