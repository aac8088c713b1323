# SPDX-License-Identifier: Apache-2.0
"""The tables for modprobe. kmod's own view of them is in the integration test of the disk."""

from __future__ import annotations

import struct

from support.kernel_modules import make_elf
from volant.volantd.boot.module_index import ModuleInfo, make_index, make_tables, read_module_info


def test_a_module_says_what_it_is() -> None:
    content = make_elf(
        b"license=GPL\0alias=fs-btrfs\0alias=devname:btrfs-control\0softdep=pre: crc32c\0depends=xor,raid6-pq\0"
    )
    assert read_module_info("kernel/fs/btrfs/my-btrfs.ko", content) == ModuleInfo(
        name="my_btrfs",
        path="kernel/fs/btrfs/my-btrfs.ko",
        depends=("xor", "raid6_pq"),
        aliases=("fs-btrfs", "devname:btrfs-control"),
        softdeps=("pre: crc32c",),
    )
    nothing = ModuleInfo("x", "x.ko", (), (), ())
    assert read_module_info("x.ko", b"no module at all") == nothing
    assert read_module_info("x.ko", make_elf(b"depends=\0")) == nothing


def make_module(name: str, *depends: str, aliases: tuple[str, ...] = ()) -> ModuleInfo:
    return ModuleInfo(name, f"kernel/{name}.ko", depends, aliases, ())


def test_dependencies_stand_before_what_needs_them_from_right_to_left() -> None:
    modules = [
        make_module("amd", "kvm", "ccp"), make_module("kvm", "bypass", "built_in"), make_module("bypass"),
        make_module("ccp", "bypass"), make_module("circle", "circle"),
    ]  # fmt: skip
    assert make_tables(modules, [])["modules.dep"].decode().splitlines() == [
        "kernel/amd.ko: kernel/ccp.ko kernel/kvm.ko kernel/bypass.ko",
        "kernel/kvm.ko: kernel/bypass.ko",
        "kernel/bypass.ko:",
        "kernel/ccp.ko: kernel/bypass.ko",
        "kernel/circle.ko:",
    ]


def test_aliases_have_underscores_but_in_ranges() -> None:
    tables = make_tables([make_module("net", aliases=("net-pf-4", "virtio:d[0-9]-*"))], [])
    assert tables["modules.alias"] == b"alias net_pf_4 net\nalias virtio:d[0-9]_* net\n"


def test_device_files_stand_for_modules_that_are_not_loaded() -> None:
    modules = [
        make_module("tun", aliases=("rtnl-link-tun", "devname:net/tun", "char-major-10-200")),
        make_module("loop", aliases=("block-major-7-*", "char-major-10-237", "devname:loop-control")),
        make_module("odd", aliases=("devname:odd",)),
    ]
    assert make_tables(modules, [])["modules.devname"] == b"tun net/tun c10:200\nloop loop-control c10:237\n"


def read_index(data: bytes) -> dict[str, list[str]]:
    """All keys of a binary table with their values, by the format's description in kmod."""
    found: dict[str, list[str]] = {}

    def text(position: int) -> tuple[bytes, int]:
        end = data.index(b"\0", position)
        return data[position:end], end + 1

    def visit(node: int, key: bytes) -> None:
        position = node & 0x0FFFFFFF
        if node & 0x80000000:
            prefix, position = text(position)
            key += prefix
        children: list[tuple[bytes, int]] = []
        if node & 0x20000000:
            first, last = data[position], data[position + 1]
            position += 2
            for char in range(first, last + 1):
                (child,) = struct.unpack_from(">I", data, position)
                position += 4
                if child:
                    children.append((bytes([char]), child))
        if node & 0x40000000:
            (count,) = struct.unpack_from(">I", data, position)
            position += 4
            for _ in range(count):
                value, position = text(position + 4)
                found.setdefault(key.decode(), []).append(value.decode())
        for letter, child in children:
            visit(child, key + letter)

    magic, version, root = struct.unpack_from(">III", data)
    assert (magic, version) == (0xB007F457, 0x20001)
    visit(root, b"")
    return found


def test_the_binary_tables_hold_the_same() -> None:
    entries = [("kvm", "a"), ("kvm_amd", "b"), ("kvm_intel", "c"), ("overlay", "d"), ("kvm", "e"), ("o", "f")]
    assert read_index(make_index(entries)) == {
        "kvm": ["a", "e"], "kvm_amd": ["b"], "kvm_intel": ["c"], "overlay": ["d"], "o": ["f"],
    }  # fmt: skip
    assert read_index(make_index([])) == {}
