# SPDX-License-Identifier: Apache-2.0
"""Golden documents: a change of what Cloud Hypervisor is told must be a change of this file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from volant.errors import Conflict, InvalidInput
from volant.volantd.hypervisors.base import DiskDrive, StreamNic, TapNic, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.configuration import (
    list_taps,
    make_arguments,
    make_net_config,
    make_vm_config,
)

SPEC = VmSpec(
    id="1f",
    name="web",
    architecture="amd64",
    machine="cloud-hypervisor",
    accelerator="kvm",
    vcpu=2,
    memory_mb=256,
    disks=(
        DiskDrive(Path("/vm/root.qcow2"), "qcow2", "root", backing=(Path("/plugins/a,b.img"),)),
        DiskDrive(Path("/cache/modules.img"), "raw", "modules", read_only=True),
    ),
    nics=(TapNic("52:54:00:00:00:01", "vt1"),),
    socket_folder=Path("/vm"),
    console_log=Path("/vm/console.log"),
    hypervisor_log=Path("/vm/hypervisor.log"),
    kernel=Path("/cache/vmlinux"),
    initrd=Path("/vm/boot.cpio"),
)


def test_the_whole_document() -> None:
    assert make_vm_config(SPEC, 3) == {
        "payload": {
            "kernel": "/cache/vmlinux",
            "cmdline": "console=ttyS0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on",
            "initramfs": "/vm/boot.cpio",
        },
        "cpus": {"boot_vcpus": 2, "max_vcpus": 8, "nested": False},
        "memory": {"size": 256 << 20, "hotplug_size": 16 << 30},
        "disks": [
            {
                "id": "disk0",
                "path": "/vm/root.qcow2",
                "readonly": False,
                "serial": "root",
                "image_type": "Qcow2",
                "backing_files": True,
            },
            {
                "id": "disk1",
                "path": "/cache/modules.img",
                "readonly": True,
                "serial": "modules",
                "image_type": "Raw",
                "backing_files": False,
            },
        ],
        "rng": {"id": "entropy", "src": "/dev/urandom"},
        "vsock": {"id": "control", "cid": 3, "socket": "/vm/ch/vs"},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "landlock_enable": True,
        "landlock_rules": [{"path": "/plugins/a,b.img", "access": "r"}, {"path": "/vm/ch", "access": "rw"}],
    }
    assert make_net_config(0, list_taps(SPEC)[0]) == {
        "id": "net0",
        "mac": "52:54:00:00:00:01",
        "num_queues": 2,
    }


def test_virtualization_is_for_who_asked() -> None:
    assert make_vm_config(replace(SPEC, nested=True), 3)["cpus"]["nested"] is True


def test_the_whole_command() -> None:
    command = [
        "ch", "--api-socket", "path=/vm/ch/api.sock", "--event-monitor", "fd=98", "--seccomp", "true",
    ]  # fmt: skip
    assert make_arguments(SPEC, "ch", 3) == [*command, "--landlock"]
    # Its own Landlock wants rights that Linux has had since 6.2, and does not start without.
    assert make_arguments(SPEC, "ch", 2) == command
    assert make_vm_config(SPEC, 2)["landlock_enable"] is False


def test_what_it_cannot_is_refused_with_what_to_do() -> None:
    with pytest.raises(Conflict) as raised:
        list_taps(replace(SPEC, nics=(StreamNic("52:54:00:00:00:01", Path("/vm/net.sock")),)))
    assert "--network bridged" in raised.value.resolution
    with pytest.raises(Conflict, match="system of their own"):
        make_vm_config(replace(SPEC, kernel=None), 3)


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        make_arguments(replace(SPEC, socket_folder=Path("/" + "x" * 100)), "ch", 3)
