# SPDX-License-Identifier: Apache-2.0
"""Kernels by their names, and what becomes of the name in a VM's machine, from its creation to its next start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict, InvalidInput, NotFound
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.boot.named_kernels import list_all_kernels, require_named_kernel
from volant.volantd.snapshots import acts
from volant.volantd.snapshots.resource import open_store
from volant.volantd.vms.definition import NewVm, check_kernel
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.states import VmState
from volant.volantd.vms.update import VmUpdate

HOST = host_architecture()


def put_kernel(kernels: Path, folder: str) -> Path:
    image = kernels / folder / "boot" / "vmlinuz-6.1-own"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"\x7fELF")
    return image


def test_names_are_those_of_folders_with_a_kernel(tmp_path: Path) -> None:
    for folder in (f"{HOST}-6.1", f"{HOST}-6.10-own", "arm64-x" if HOST == "amd64" else "amd64-x"):
        put_kernel(tmp_path, folder)
    (tmp_path / f"{HOST}-empty").mkdir()
    (tmp_path / "vmlinux").mkdir()
    own = [name for architecture, name in list_all_kernels(tmp_path) if architecture == HOST]
    assert own == ["6.10-own", "6.1"]
    assert len(list_all_kernels(tmp_path)) == 3
    assert require_named_kernel("6.1", HOST, tmp_path).version == "6.1-own"
    for name in ("x", "empty", "../6.1", f"{HOST}-6.1", ""):
        with pytest.raises(NotFound, match="this host has none of that name") as caught:
            require_named_kernel(name, HOST, tmp_path)
        assert caught.value.details == ("existing: 6.10-own, 6.1",)
    assert list_all_kernels(tmp_path / "missing") == []


def find_boot(fleet: Fleet, name: str) -> tuple[str, tuple[str, ...]]:
    spec = fleet.get(name).spec
    assert spec is not None
    assert spec.kernel is not None
    return spec.kernel.name, spec.extra_cmdline


async def test_a_vm_boots_what_it_names_and_from_its_next_start_on_what_an_update_says(
    tmp_path: Path,
) -> None:
    async with open_fleet(tmp_path) as fleet:
        put_kernel(fleet.domain.settings.kernels_dir, f"{HOST}-own")
        one = await fleet.create(NewVm(name="one", plugin="web", kernel="own", kernel_arguments="a=1  b"))
        assert find_boot(fleet, "one") == ("vmlinuz-6.1-own", ("a=1", "b"))
        with pytest.raises(NotFound, match="cannot use kernel gone"):
            await fleet.update("one", VmUpdate(kernel="gone", kernel_arguments="c"))
        updated = await fleet.update("one", VmUpdate(kernel="", kernel_arguments="c"))
        assert updated.pending == ("kernel", "kernel_arguments")
        assert find_boot(fleet, "one") == ("vmlinuz-6.1-own", ("a=1", "b"))
        await fleet.stop("one", force=True)
        assert (await fleet.start("one")).pending == ()
        assert find_boot(fleet, "one") == ("vmlinux", ("c",))
        assert (await fleet.update("one", VmUpdate(vcpu=1))).definition.kernel_arguments == "c"
        assert one.id == fleet.get("one").id
        with pytest.raises(NotFound, match="cannot use kernel gone"):
            await fleet.create(NewVm(name="two", plugin="web", kernel="gone"))
        assert [vm.name for vm in fleet.list_all()] == ["one"]


async def test_a_vm_of_a_snapshot_boots_what_the_snapshots_vm_did(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        await fleet.create(NewVm(name="one", plugin="web", kernel_arguments="a=1", start=False))
        snapshot = await acts.take(fleet, open_store(fleet.domain), "one", "then")
        with pytest.raises(InvalidInput, match="another kernel_arguments than snapshot then has"):
            await acts.create_vm(fleet, snapshot, NewVm(name="two", plugin="", kernel_arguments="b"))
        two = await acts.create_vm(fleet, snapshot, NewVm(name="two", plugin=""))
        await asyncio.sleep(0)
        assert (two.state, find_boot(fleet, "two")[1]) == (VmState.STARTING, ("a=1",))


def test_a_system_of_its_own_has_its_own_kernel() -> None:
    check_kernel("one", "kernel", is_chosen=True)
    check_kernel("one", "firmware", is_chosen=False)
    with pytest.raises(Conflict, match="of VM one: its disk boots a system of its own"):
        check_kernel("one", "firmware", is_chosen=True)
