# SPDX-License-Identifier: Apache-2.0
"""Layers are made, kept and removed by what stands on them, and a crash in between loses nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from volant.volantd.vms.disk_layers import (
    name_overlay,
    prepare_layer,
    release_layer,
    settle_overlay,
    sweep_layers,
)
from volant.volantd.vms.disks import list_chain, read_backing

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A VM's disk over a plugin's."""
    base, disk = tmp_path / "plugin.qcow2", tmp_path / "vm" / "root.qcow2"
    disk.parent.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "64M"], check=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(disk)], check=True
    )
    return disk


def test_a_frozen_disk_is_the_layer_below_an_empty_overlay(disk: Path, tmp_path: Path) -> None:
    inode = disk.stat().st_ino
    prepared = prepare_layer(disk, tmp_path / "layers")
    prepared.put_in_place()
    assert prepared.layer.stat().st_ino == inode
    assert read_backing(disk) == prepared.layer
    assert list(list_chain(disk)) == [disk, prepared.layer, tmp_path / "plugin.qcow2"]
    described = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", str(disk)], capture_output=True, check=True
        ).stdout
    )
    assert described["virtual-size"] == 64 << 20
    assert described["backing-filename-format"] == "qcow2"


def test_what_is_given_up_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    before = disk.read_bytes()
    prepare_layer(disk, tmp_path / "layers").give_up()
    assert list((tmp_path / "layers").iterdir()) == []
    assert [path.name for path in disk.parent.iterdir()] == ["root.qcow2"]
    assert disk.read_bytes() == before


def test_a_layer_goes_when_nothing_stands_on_it(disk: Path, tmp_path: Path) -> None:
    layers = tmp_path / "layers"
    first = prepare_layer(disk, layers)
    first.put_in_place()
    second = prepare_layer(disk, layers)
    second.put_in_place()
    assert sweep_layers(layers, [disk]) == []
    # Something else stands on the first alone.
    disk.unlink()
    assert sweep_layers(layers, [first.layer]) == [second.layer]
    assert sweep_layers(layers, []) == [first.layer]


def test_after_a_crash_the_overlay_is_put_in_place_unless_the_machine_writes_past_it(
    disk: Path, tmp_path: Path
) -> None:
    layers = tmp_path / "layers"
    prepared = prepare_layer(disk, layers)
    settle_overlay(disk, None)  # no machine runs: through the overlay everything is there, switched or not
    assert read_backing(disk) == prepared.layer
    assert not name_overlay(disk).exists()

    prepared = prepare_layer(disk, layers)
    settle_overlay(disk, prepared.name)  # the machine has switched
    assert read_backing(disk) == prepared.layer

    inode = disk.stat().st_ino
    prepared = prepare_layer(disk, layers)
    settle_overlay(disk, "disk0")  # it has not
    assert disk.stat().st_ino == inode
    assert not name_overlay(disk).exists()
    assert prepared.layer not in sweep_layers(layers, [disk]), "somebody prepares it"
    release_layer(prepared.layer)  # its daemon was killed
    assert prepared.layer in sweep_layers(layers, [disk])
