# SPDX-License-Identifier: Apache-2.0
"""Which VMs may wake from the same template."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.template_shapes import TemplateHypervisor, make_shape, make_spec
from volant.contract.guest_config import Control, GuestConfig
from volant.volantd.hypervisors.base import DiskDrive, TapNic
from volant.volantd.hypervisors.qemu import Qemu
from volant.volantd.templates.shape import add_workload, list_hardware_addresses, make_template_spec
from volant.volantd.templates.workload import NO_CONTROL, Keys, Workload

OTHER_SHAPE = {"vcpu": 2, "memory_mb": 256, "accelerator": "kvm", "nics": (), "tsc_khz": 1_000_000}


def test_names_files_and_networks_do_not_matter(tmp_path: Path) -> None:
    qemu = Qemu(tmp_path)
    spec = make_spec(tmp_path)
    other = replace(
        spec, id="2e1f", name="db", disks=(DiskDrive(tmp_path / "other.qcow2", "qcow2", "root"),),
        nics=(TapNic("52:54:00:99:99:99", "vtap1"),), console_log=tmp_path / "elsewhere",
    )  # fmt: skip
    first, second = make_shape(tmp_path, qemu, spec), make_shape(tmp_path, qemu, other)
    assert (first.key, first.versions) == (second.key, second.versions)


def test_a_clock_that_is_measured_again_is_the_same(tmp_path: Path) -> None:
    qemu, spec = Qemu(tmp_path), make_spec(tmp_path)
    keys = {make_shape(tmp_path, qemu, replace(spec, tsc_khz=khz)).key for khz in (2_595_908, 2_596_039)}
    assert len(keys) == 1


@pytest.mark.parametrize("name", OTHER_SHAPE)
def test_what_the_machine_is_matters(tmp_path: Path, name: str) -> None:
    qemu = Qemu(tmp_path)
    spec = make_spec(tmp_path)
    changed: dict[str, Any] = {name: OTHER_SHAPE[name]}
    other = replace(spec, **changed)
    first, second = make_shape(tmp_path, qemu, spec), make_shape(tmp_path, qemu, other)
    assert first.key != second.key
    assert first.versions == second.versions


def test_a_workload_is_a_further_shape(tmp_path: Path) -> None:
    shape = make_shape(tmp_path, TemplateHypervisor())
    config = GuestConfig(vm_id="template", vm_name="template", hostname="template", control=NO_CONTROL)
    workload = Workload("web:1.0.0", tmp_path / "payload", config, Keys("", ""), Path.touch)
    others = [
        replace(workload, payload=tmp_path / "other"),
        replace(workload, config=config.model_copy(update={"hostname": "another"})),
    ]
    found = [add_workload(shape, each) for each in (workload, *others)]
    assert len({shape.key, *(each.key for each in found)}) == 4
    assert {each.versions for each in found} == {shape.versions}
    keys = {"unix_time_nanoseconds": 1, "control": Control(host_key="key", authorized_keys=[])}
    same = replace(workload, plugin="same:1.0.0", config=config.model_copy(update=keys))
    assert add_workload(shape, same).key == found[0].key
    (root,) = make_template_spec(shape.spec, Path("/template"), workload).disks
    assert (root.path, root.format, root.backing) == (
        Path("/template/disk"),
        "qcow2",
        (tmp_path / "payload",),
    )


def test_exchanged_programs_are_other_versions(tmp_path: Path) -> None:
    hypervisor = TemplateHypervisor()
    shapes = [make_shape(tmp_path, hypervisor), make_shape(tmp_path, hypervisor, version="8.0.0")]
    for program in ("kernel", "qemu"):
        os.utime(tmp_path / program, ns=(1, len(shapes)))
        shapes.append(make_shape(tmp_path, hypervisor))
    assert len({shape.key for shape in shapes}) == len({shape.versions for shape in shapes}) == 4


def test_a_template_has_nothing_of_the_vm(tmp_path: Path) -> None:
    spec = make_spec(tmp_path / "vm" if (tmp_path / "vm").mkdir() is None else tmp_path)
    template = make_template_spec(spec, Path("/template"))
    assert str(tmp_path / "vm") not in repr(replace(template, kernel=None))
    assert "web" not in repr(template)
    assert spec.nics[0].mac not in repr(template)
    assert list_hardware_addresses(spec) == [nic.mac for nic in template.nics]
