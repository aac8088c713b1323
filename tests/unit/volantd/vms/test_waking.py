# SPDX-License-Identifier: Apache-2.0
"""What a copy's machine is, and what keeps memory from waking; that it wakes is shown with real VMs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from support.vm_records import make_record
from volant.volantd.hypervisors.base import DiskDrive, HostSupport, MemoryImage, StreamNic, TapNic, VmSpec
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.vms import waking
from volant.volantd.vms.record import WakeSource
from volant.volantd.vms.waking import CannotWake, check_fit, choose_image

SUPPORT = HostSupport("qemu", "7.2.0", "microvm", "mmio", "tcg", "")


@pytest.fixture
def spec(tmp_path: Path) -> VmSpec:
    for name in ("kernel", "root.qcow2", "state"):
        (tmp_path / name).touch()
    return VmSpec(
        id="1", name="copy", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=128,
        disks=(DiskDrive(tmp_path / "root.qcow2", "qcow2", "root"),),
        nics=(StreamNic("52:54:00:00:00:01", tmp_path / "net.sock"),), socket_folder=tmp_path,
        console_log=tmp_path / "console.log", hypervisor_log=tmp_path / "qemu.log", kernel=tmp_path / "kernel",
    )  # fmt: skip


def make_source(spec: VmSpec, version: str = "7.2.0") -> WakeSource:
    image = MemoryImage(spec.socket_folder)
    return WakeSource(image=image, spec=spec, control_key="", host_key="", hypervisor_version=version)


def test_memory_wakes_on_the_host_that_it_was_of(spec: VmSpec, tmp_path: Path) -> None:
    check_fit(spec, make_source(spec), SUPPORT, Qemu(tmp_path))


def test_another_hypervisor_accelerator_or_network_is_refused(spec: VmSpec, tmp_path: Path) -> None:
    qemu = Qemu(tmp_path)
    with pytest.raises(CannotWake, match=r"its memory is of 6\.0\.0, and this host has 7\.2\.0"):
        check_fit(spec, make_source(spec, "6.0.0"), SUPPORT, qemu)
    with pytest.raises(CannotWake, match="its memory is of tcg, and this host runs on kvm"):
        check_fit(spec, make_source(spec), dataclasses.replace(SUPPORT, accelerator="kvm"), qemu)
    bridged = dataclasses.replace(spec, nics=(TapNic("52:54:00:00:00:01", "vtap0"),))
    with pytest.raises(CannotWake, match="another kind of network"):
        check_fit(bridged, make_source(spec), SUPPORT, qemu)


def test_files_that_are_gone_are_named(spec: VmSpec, tmp_path: Path) -> None:
    (tmp_path / "kernel").unlink()
    with pytest.raises(CannotWake, match="kernel is gone"):
        check_fit(spec, make_source(spec), SUPPORT, Qemu(tmp_path))


def test_other_devices_and_another_processor_are_named(spec: VmSpec, tmp_path: Path) -> None:
    qemu = Qemu(tmp_path)
    traits = qemu.find_traits(spec)
    check_fit(spec, make_source(spec).model_copy(update={"traits": traits}), SUPPORT, qemu)
    for others in ({"devices": "else"}, {**traits, "hardware": "else"}):
        source = make_source(spec).model_copy(update={"traits": others})
        with pytest.raises(CannotWake, match="of a machine with another set of devices"):
            check_fit(spec, source, SUPPORT, qemu)
    # Another version has started it with options that its guest sees nothing of.
    check_fit(
        spec, make_source(spec).model_copy(update={"traits": {**traits, "devices": "else"}}), SUPPORT, qemu
    )
    source = make_source(spec).model_copy(update={"traits": {**traits, "processor": "Other CPU"}})
    with pytest.raises(CannotWake, match="another processor: Other CPU there"):
        check_fit(spec, source, SUPPORT, qemu)


def test_a_vm_has_its_own_memory_back_as_a_copy_and_another_vm_shares_it(
    spec: VmSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory").write_bytes(bytes(1 << 20))
    image = MemoryImage(tmp_path, has_pages=True)
    own = make_source(dataclasses.replace(spec, id=make_record().id)).model_copy(update={"image": image})
    assert choose_image(make_record(), own).is_copied
    assert not choose_image(make_record(), make_source(spec).model_copy(update={"image": image})).is_copied
    # So much that copying would take longer than the rest.
    monkeypatch.setattr(waking, "MOST_COPIED_BYTES", 1 << 19)
    assert not choose_image(make_record(), own).is_copied
