# SPDX-License-Identifier: Apache-2.0
"""Golden argument lists: a change of QEMU's command line must be a change of this file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from volant.errors import InvalidInput
from volant.volantd.hypervisors.base import (
    Accelerator,
    DiskDrive,
    MemoryImage,
    StreamNic,
    TapNic,
    UserNic,
    VmSpec,
)
from volant.volantd.hypervisors.qemu_arguments import make_command_line, make_qemu_arguments
from volant.volantd.network.types import PublishedPort

MAC = "52:54:00:00:00:01"
SPEC = VmSpec(
    id="1f",
    name="web",
    architecture="amd64",
    machine="microvm",
    accelerator="tcg",
    vcpu=1,
    memory_mb=256,
    disks=(DiskDrive(Path("/vm/root.qcow2"), "qcow2", "root"),),
    nics=(
        UserNic(
            MAC,
            (
                PublishedPort(host_ip="127.127.3.4", host_port=80, guest_port=80),
                PublishedPort(host_ip="127.0.0.1", host_port=5353, guest_port=53, protocol="udp"),
            ),
        ),
    ),
    socket_folder=Path("/vm"),
    console_log=Path("/vm/console.log"),
    hypervisor_log=Path("/vm/qemu.log"),
    kernel=Path("/cache/vmlinux"),
    initrd=Path("/vm/boot.cpio"),
    tsc_khz=2595000,
)

PROCESS = [
    "-name", "guest=web", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
    "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
]  # fmt: skip


def consoles(suffix: str) -> list[str]:
    return [
        "-chardev",
        "socket,id=console,path=/vm/console.sock,server=on,wait=off,logfile=/vm/console.log,logappend=on",
        "-serial", "chardev:console",
        "-chardev", "socket,id=control,path=/vm/control.sock,server=on,wait=off",
        "-device", f"virtio-serial-{suffix},max_ports=2",
        "-device", "virtserialport,chardev=control,name=volant.control.0",
        "-chardev", "socket,id=qmp,path=/vm/qmp.sock,server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip


def blockdev(driver: str, name: str, path: str, read_only: str = "false") -> str:
    return (
        f'{{"driver":"{driver}","node-name":"{name}","read-only":{read_only},"discard":"unmap",'
        f'"file":{{"driver":"file","filename":"{path}","locking":"auto"}}}}'
    )


def entropy(suffix: str) -> list[str]:
    return [
        "-object", "rng-random,id=entropy,filename=/dev/urandom",
        "-device", f"virtio-rng-{suffix},rng=entropy",
    ]  # fmt: skip


USER_NIC = [
    "-netdev",
    "user,id=net0,ipv6=off,hostfwd=tcp:127.127.3.4:80-10.0.2.15:80,hostfwd=udp:127.0.0.1:5353-10.0.2.15:53",
]


def test_microvm_under_tcg() -> None:
    assert make_qemu_arguments(SPEC, "qemu-system-x86_64") == [
        "qemu-system-x86_64",
        *PROCESS,
        "-object", "memory-backend-memfd,id=ram,size=256M,share=on",
        "-machine",
        "microvm,pit=on,pic=on,rtc=on,isa-serial=on,acpi=on,dump-guest-core=off,mem-merge=off,memory-backend=ram",
        "-accel", "tcg,tb-size=64", "-cpu", "max,la57=off,erms=off,fsrm=off,svm=off", "-smp", "1", "-m", "256M",
        "-global", "virtio-mmio.force-legacy=false",
        "-kernel", "/cache/vmlinux", "-initrd", "/vm/boot.cpio",
        "-append",
        "console=ttyS0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on reboot=t "
        "tsc_early_khz=2595000 tsc=reliable",
        *consoles("device"),
        "-blockdev", blockdev("qcow2", "disk0", "/vm/root.qcow2"),
        "-device", "virtio-blk-device,id=drive0,drive=disk0,serial=root,werror=enospc",
        *USER_NIC,
        "-device", f"virtio-net-device,netdev=net0,mac={MAC},guest_announce=off",
        *entropy("device"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nic", "netdev"),
    [
        (StreamNic(MAC, Path("/vm/a,b/net.sock")),
         "stream,id=net0,server=off,addr.type=unix,addr.path=/vm/a,,b/net.sock"),
        (UserNic(MAC, is_restricted=True), "user,id=net0,ipv6=off,restrict=on"),
        (UserNic(MAC), "user,id=net0,ipv6=off"),
    ],
)  # fmt: skip
def test_a_nic_of_user_mode(nic: StreamNic | UserNic, netdev: str) -> None:
    arguments = make_qemu_arguments(dataclasses.replace(SPEC, nics=(nic,)), "qemu-system-x86_64")
    assert arguments[arguments.index("-netdev") + 1] == netdev


def test_q35_with_kvm_a_tap_and_a_further_disk() -> None:
    spec = dataclasses.replace(
        SPEC,
        machine="q35",
        accelerator="kvm",
        tsc_khz=None,
        vcpu=2,
        disks=(*SPEC.disks, DiskDrive(Path("/data/a,b.img"), "raw", "data", read_only=True)),
        nics=(TapNic(MAC, "vtap0"),),
    )
    assert make_qemu_arguments(spec, "qemu-system-x86_64", sandbox=False) == [
        "qemu-system-x86_64",
        *PROCESS[:-2],
        "-object", "memory-backend-memfd,id=ram,size=256M,share=on",
        "-machine", "q35,usb=off,vmport=off,smbus=off,dump-guest-core=off,mem-merge=off,memory-backend=ram",
        "-accel", "kvm", "-cpu", "host,vmx=off,svm=off", "-smp", "2", "-m", "256M",
        "-kernel", "/cache/vmlinux", "-initrd", "/vm/boot.cpio",
        "-append", "console=ttyS0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on reboot=t",
        *consoles("pci"),
        "-blockdev", blockdev("qcow2", "disk0", "/vm/root.qcow2"),
        "-device", "virtio-blk-pci,id=drive0,drive=disk0,serial=root,werror=enospc",
        "-blockdev", blockdev("raw", "disk1", "/data/a,b.img", "true"),
        "-device", "virtio-blk-pci,id=drive1,drive=disk1,serial=data,werror=enospc",
        "-netdev", "tap,id=net0,fd=100",
        "-device", f"virtio-net-pci,netdev=net0,mac={MAC},guest_announce=off,romfile=",
        *entropy("pci"),
    ]  # fmt: skip


def test_aarch64_under_tcg_without_a_network() -> None:
    spec = dataclasses.replace(SPEC, architecture="arm64", machine="virt", tsc_khz=None, nics=())
    assert make_qemu_arguments(spec, "qemu-system-aarch64") == [
        "qemu-system-aarch64",
        *PROCESS,
        "-object", "memory-backend-memfd,id=ram,size=256M,share=on",
        "-machine", "virt,gic-version=max,usb=off,dump-guest-core=off,mem-merge=off,memory-backend=ram",
        "-accel", "tcg,tb-size=64", "-cpu", "max,pauth-impdef=on", "-smp", "1", "-m", "256M",
        "-global", "virtio-mmio.force-legacy=false",
        "-kernel", "/cache/vmlinux", "-initrd", "/vm/boot.cpio",
        "-append", "console=ttyAMA0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on",
        *consoles("device"),
        "-blockdev", blockdev("qcow2", "disk0", "/vm/root.qcow2"),
        "-device", "virtio-blk-device,id=drive0,drive=disk0,serial=root,werror=enospc",
        *entropy("device"),
    ]  # fmt: skip


def test_firmware_boots_the_disks_in_their_order() -> None:
    seed = DiskDrive(Path("/vm/seed.iso"), "raw", "cidata", read_only=True)
    spec = dataclasses.replace(
        SPEC, machine="q35", kernel=None, initrd=None, disks=(*SPEC.disks, seed), nics=()
    )
    arguments = make_qemu_arguments(spec, "qemu-system-x86_64")
    assert not {"-kernel", "-initrd", "-append"} & set(arguments)
    assert [argument for argument in arguments if "bootindex" in argument] == [
        "virtio-blk-pci,id=drive0,drive=disk0,serial=root,bootindex=0,werror=enospc",
        "virtio-blk-pci,id=drive1,drive=disk1,serial=cidata,bootindex=1,werror=enospc",
    ]


def test_uefi_is_flash_with_variables_of_the_vms_own() -> None:
    uefi = (Path("/usr/share/OVMF/code, 4M.fd"), Path("/vm/uefi-variables"))
    spec = dataclasses.replace(SPEC, machine="q35", kernel=None, initrd=None, nics=(), uefi=uefi)
    arguments = make_qemu_arguments(spec, "qemu-system-x86_64")
    machine = arguments[arguments.index("-machine") + 1]
    assert machine.endswith(",pflash0=uefi-code,pflash1=uefi-variables")
    drives = [json.loads(word) for word in arguments if word.startswith("{") and "uefi" in word]
    assert [(d["node-name"], d["read-only"], d["file"]["filename"]) for d in drives] == [
        ("uefi-code", True, "/usr/share/OVMF/code, 4M.fd"),
        ("uefi-variables", False, "/vm/uefi-variables"),
    ]


@pytest.mark.parametrize(("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max,la57=off,erms=off,fsrm=off")])
def test_virtualization_is_for_guests_that_ask_for_it(accelerator: Accelerator, cpu: str) -> None:
    spec = dataclasses.replace(SPEC, accelerator=accelerator, nested=True)
    arguments = make_qemu_arguments(spec, "qemu-system-x86_64")
    assert arguments[arguments.index("-cpu") + 1] == cpu


def test_no_clock_option_goes_to_a_guest_with_kvms_clock() -> None:
    words = make_command_line(dataclasses.replace(SPEC, accelerator="kvm"))
    assert not [word for word in words if "tsc" in word]


def test_a_vm_with_folders_of_the_host_has_a_port_more() -> None:
    with_folders = make_qemu_arguments(dataclasses.replace(SPEC, has_folders=True), "qemu")
    without = make_qemu_arguments(SPEC, "qemu")
    more = [argument for argument in with_folders if argument not in without]
    assert more == [
        "virtio-serial-device,max_ports=3",
        f"socket,id=folders,path={SPEC.socket_folder}/folders.sock,server=on,wait=off",
        "virtserialport,chardev=folders,name=volant.folders.0",
    ]


def test_further_kernel_parameters_come_last() -> None:
    assert make_command_line(dataclasses.replace(SPEC, extra_cmdline=("loglevel=7",)))[-1] == "loglevel=7"


def test_commas_in_names_and_paths_stay_inside_their_option() -> None:
    spec = dataclasses.replace(SPEC, name="a,b", socket_folder=Path("/v,m"))
    arguments = make_qemu_arguments(spec, "qemu")
    assert "guest=a,,b" in arguments
    assert "socket,id=qmp,path=/v,,m/qmp.sock,server=on,wait=off" in arguments


def test_what_qemu_would_misread_is_refused() -> None:
    with pytest.raises(InvalidInput, match="longer than a socket's 107 bytes"):
        make_qemu_arguments(dataclasses.replace(SPEC, socket_folder=Path("/" + "x" * 95)), "qemu")
    for serial in ("x" * 21, "a,b"):
        disk = dataclasses.replace(SPEC.disks[0], serial=serial)
        with pytest.raises(InvalidInput, match="no disk serial"):
            make_qemu_arguments(dataclasses.replace(SPEC, disks=(disk,)), "qemu")


def test_a_machine_that_wakes_maps_its_memory_privately_and_waits_for_its_state() -> None:
    image = MemoryImage(Path("/snap,shot"), has_pages=True)
    arguments = make_qemu_arguments(dataclasses.replace(SPEC, wakes_from=image), "qemu")
    backend = arguments[arguments.index("-object") + 1]
    assert backend == "memory-backend-file,id=ram,size=256M,mem-path=/snap,,shot/memory,share=off"
    assert arguments[arguments.index("-incoming") + 1] == "defer"
    whole = make_qemu_arguments(dataclasses.replace(SPEC, wakes_from=MemoryImage(Path("/s"))), "qemu")
    assert "memory-backend-memfd,id=ram,size=256M,share=on" in whole
