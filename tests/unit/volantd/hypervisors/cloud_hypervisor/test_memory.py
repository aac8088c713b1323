# SPDX-License-Identifier: Apache-2.0
"""Memory goes to two files, and another VM's machine wakes from them with disks, sockets and taps of its own."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from volant.errors import Conflict, StorageFull, ToolFailed
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.base import DiskDrive, MachineState, MemoryImage, TapNic, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.configuration import find_files
from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor
from volant.volantd.hypervisors.cloud_hypervisor.memory import (
    laid_out,
    make_restore_request,
    make_restored_config,
)
from volant.volantd.hypervisors.console import read_last_lines

NIC = TapNic("52:54:00:00:00:01", "vt1")


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def copy_of(spec: VmSpec, image: MemoryImage) -> VmSpec:
    """Another VM's, with a disk of its own."""
    other = spec.socket_folder.parent / "other"
    other.mkdir(mode=0o700)
    (other / "root.qcow2").write_bytes(b"layer")
    disk = DiskDrive(other / "root.qcow2", "qcow2", "root", backing=(spec.disks[0].path,))
    return replace(
        spec, id="2f", name="copy", disks=(disk,), socket_folder=other, console_log=other / "console.log",
        hypervisor_log=other / "hypervisor.log", wakes_from=image,
    )  # fmt: skip


async def test_a_machine_is_saved_goes_on_and_wakes_as_another(
    program: Path, spec: VmSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confine, "open_tap", lambda _: os.open(spec.initrd or "", os.O_RDONLY))
    spec = replace(spec, nics=(NIC,))
    first = await CloudHypervisor().start(spec)
    with pytest.raises(Conflict):
        await first.save_memory(folder)
    await first.pause()
    image = await first.save_memory(folder)
    await first.resume()
    assert image.has_pages
    assert image.state.stat().st_mode & 0o777 == image.memory.stat().st_mode & 0o777 == 0o600
    # The third file, which names the first one's disk and sockets, is no part of it.
    assert list_names(folder) == {"bin", "vm", "state", "memory"}
    second = await CloudHypervisor().start(copy_of(spec, image))
    assert second.state is MachineState.PAUSED
    assert first.state is MachineState.RUNNING
    woke = read_last_lines(second.spec.console_log, 1)
    assert woke == [f"woke with pages of {find_files(spec).vsock}"]
    assert not list(find_files(second.spec).folder.glob("*.json"))[1:]  # the fake's own is there
    assert not (find_files(second.spec).folder / "memory-ranges").exists()
    await second.resume()
    (await second.open_control()).close()
    for machine in (first, second):
        await machine.kill()


async def test_a_memory_that_does_not_fit_the_machine_leaves_no_process(
    program: Path, spec: VmSpec, folder: Path
) -> None:
    machine = await CloudHypervisor().start(spec)
    await machine.pause()
    image = await machine.save_memory(folder)
    await machine.kill()
    further = replace(copy_of(spec, image), disks=())
    with pytest.raises(ToolFailed, match="devices are"):
        await CloudHypervisor().start(further)
    assert CloudHypervisor().find_process(further) is None


async def test_a_full_disk_leaves_no_file(program: Path, spec: VmSpec, folder: Path) -> None:
    machine = await CloudHypervisor().start(replace(spec, extra_cmdline=("fake=full",)))
    await machine.pause()
    with pytest.raises(StorageFull):
        await machine.save_memory(folder)
    assert not (folder / "state").exists()
    assert not (folder / "memory").exists()
    assert not (find_files(spec).folder / "memory-ranges").exists()
    await machine.kill()


async def test_a_disk_is_copied_while_the_machine_stands_still(
    program: Path, spec: VmSpec, folder: Path
) -> None:
    machine = await CloudHypervisor().start(spec)
    states = []

    async def begun() -> None:
        states.append(machine.state)

    await machine.copy_disk(0, folder / "copy", begun)
    assert (folder / "copy").read_bytes() == b"content"
    heard = json.loads((find_files(spec).folder / "fake.json").read_text())["heard"]
    assert heard[-2:] == ["PUT vm.pause", "PUT vm.resume"]
    # For a snapshot it stands still before and after.
    await machine.pause()
    await machine.copy_disk(0, folder / "copy", begun)
    assert states == [MachineState.RUNNING, MachineState.PAUSED]
    with pytest.raises(ToolFailed):
        await machine.copy_disk(0, folder / "gone" / "copy", begun)
    await machine.kill()


def test_what_wakes_is_told_of_its_nics(spec: VmSpec) -> None:
    assert make_restore_request(spec) == {"source_url": f"file://{spec.socket_folder}/ch"}
    with_nic = replace(spec, nics=(NIC,))
    assert make_restore_request(with_nic)["net_fds"] == [{"id": "net0", "num_fds": 1}]
    (net,) = make_restored_config(with_nic, 0)["net"]
    assert (net["id"], net["fds"]) == ("net0", [-1])


def test_the_memory_lies_there_only_while_it_is_read(spec: VmSpec, folder: Path) -> None:
    image = MemoryImage(folder, has_pages=True)
    for path in (image.state, image.memory):
        path.write_bytes(b"x")
    there = find_files(spec).folder
    there.mkdir()
    with laid_out(replace(spec, wakes_from=image), 0):
        assert {path.name for path in there.iterdir()} == {"state.json", "memory-ranges", "config.json"}
    assert list(there.iterdir()) == []
    with laid_out(spec, 0):
        assert list(there.iterdir()) == []
