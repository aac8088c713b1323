# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from volant.volantd.hypervisors.base import DiskDrive, StreamNic, TapNic, VmSpec
from volant.volantd.hypervisors.qemu_arguments import make_qemu_arguments
from volant.volantd.hypervisors.qemu_traits import find_traits, list_hardware, read_processor

SPEC = VmSpec(
    id="1", name="one", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=128,
    disks=(DiskDrive(Path("/vms/1/root.qcow2"), "qcow2", "root"),),
    nics=(StreamNic("52:54:00:00:00:01", Path("/vms/1/net.sock")),), socket_folder=Path("/vms/1"),
    console_log=Path("/vms/1/console.log"), hypervisor_log=Path("/vms/1/log"), kernel=Path("/kernel"),
    tsc_khz=2_000_000,
)  # fmt: skip
CPUINFO = (
    "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse\n\nprocessor\t: 1\nmodel name\t: Other\n"
)


def test_a_copy_under_another_name_has_the_same() -> None:
    elsewhere = dataclasses.replace(
        SPEC, id="2", name="two", disks=(DiskDrive(Path("/vms/2/r"), "qcow2", "root", backing=(Path("/below"),)),),
        nics=(StreamNic("52:54:00:00:00:02", Path("/x")),), socket_folder=Path("/vms/2"), kernel=Path("/other"),
        tsc_khz=1_999_998,
    )  # fmt: skip
    assert find_traits(elsewhere) == find_traits(SPEC)
    assert set(find_traits(SPEC)) == {"hardware", "devices"}


def test_other_devices_make_another_machine() -> None:
    others = [
        dataclasses.replace(SPEC, vcpu=2),
        dataclasses.replace(SPEC, memory_mb=256),
        dataclasses.replace(SPEC, machine="q35"),
        dataclasses.replace(SPEC, disks=()),
        dataclasses.replace(SPEC, nics=(TapNic("52:54:00:00:00:01", "tap0"),)),
    ]
    assert len({find_traits(spec)["hardware"] for spec in (SPEC, *others)}) == 6


def test_a_newer_version_that_only_runs_it_otherwise_finds_the_same_hardware() -> None:
    command = make_qemu_arguments(SPEC, "qemu")
    changes = {
        "tb-size=64": "tb-size=32", "obsolete=deny": "obsolete=deny,new=deny", "quiet": "quiet another",
        "werror=enospc": "werror=report", "mem-merge=off": "mem-merge=on",
    }  # fmt: skip
    newer = command
    for before, after in changes.items():
        newer = [word.replace(before, after) for word in newer]
    newer += ["-msg", "timestamp=on", "-no-hpet"]
    assert len([1 for before, after in zip(command, newer, strict=False) if before != after]) == 5
    assert list_hardware(newer) == list_hardware(command)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("svm=off", "svm=on"),
        ("guest_announce=off", "guest_announce=on"),
        ("max_ports=2", "max_ports=3"),
        ("tcg", "kvm"),
        ("stream", "user"),
        ("rtc=on", "rtc=off"),
    ],
)
def test_what_the_guest_sees_is_part_of_it(before: str, after: str) -> None:
    command = make_qemu_arguments(SPEC, "qemu")
    newer = [word.replace(before, after) for word in command]
    assert newer != command
    assert list_hardware(newer) != list_hardware(command)


def test_under_kvm_the_processor_counts(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    spec = dataclasses.replace(SPEC, accelerator="kvm")
    assert find_traits(spec, path)["processor"].startswith("Some CPU (")
    assert read_processor(CPUINFO) != read_processor(CPUINFO.replace("sse", "avx"))
    assert read_processor("") == read_processor("processor: 0\n")
