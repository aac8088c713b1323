# SPDX-License-Identifier: Apache-2.0
"""What an export holds of a disk; that it comes in again is in test_importing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.contract.disk_probe import probe_disk
from volant.errors import Conflict
from volant.volantd.snapshots.exporting import _open_disk, export_snapshot
from volant.volantd.snapshots.importing import take_disk
from volant.volantd.snapshots.store import SnapshotStore
from volant.volantd.vms.disks import list_chain

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img")


def run(*arguments: str | Path) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)


def test_a_chain_becomes_one_disk_over_the_plugins_and_no_other_file_is_named(tmp_path: Path) -> None:
    base, below, top = (tmp_path / name for name in ("plugin.qcow2", "below.qcow2", "top.qcow2"))
    run("qemu-img", "create", "-q", "-f", "qcow2", base, "64M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 8M", base)
    for number, (disk, backing) in enumerate(((below, base), (top, below)), start=2):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", disk)
        run("qemu-io", "-f", "qcow2", "-c", f"write -P {number} {number}M 1M", disk)
    store = SnapshotStore(tmp_path / "state", tmp_path / "vms")
    plugin = cast("Any", SimpleNamespace(payload=base, format="qcow2"))
    received = tmp_path / "received.qcow2"
    with _open_disk(top, plugin, store) as stream:
        received.write_bytes(stream.read())
        assert probe_disk(stream.fileno(), received.stat().st_size).virtual_size_bytes == 64 << 20
    assert list(store.folder.iterdir()) == []
    assert received.stat().st_size < 4 << 20, "the plugin's own 8 MiB are no part of it"
    layer = take_disk(received, store.layers, base, "qcow2")
    assert list(list_chain(layer)) == [layer, base]
    run("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", layer, top)
    run("qemu-img", "check", "-q", layer)


def test_memory_of_another_hypervisor_stays_here(tmp_path: Path) -> None:
    wake = SimpleNamespace(hypervisor="cloud-hypervisor")
    snapshot = cast("Any", SimpleNamespace(name="then", layer=None, wake=wake))
    nothing = cast("Any", None)
    store = SnapshotStore(tmp_path / "state", tmp_path / "vms")
    with pytest.raises(Conflict, match="it is of cloud-hypervisor"):
        export_snapshot(snapshot, nothing, nothing, store, with_memory=True)
