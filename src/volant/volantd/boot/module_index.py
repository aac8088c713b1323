# SPDX-License-Identifier: Apache-2.0
"""The tables by which modprobe finds modules: what depmod(8) writes into lib/modules/VERSION.

A kernel package that was only unpacked lacks them, and the host may have no depmod. The text tables are read by the
agent and by busybox, the binary ones by kmod; all is taken from the .modinfo sections of the modules themselves.
"""

from __future__ import annotations

import os.path
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

# kmod's shared/... index format ("BOOTFAST", version 2.1) and the flags in a node's offset.
_MAGIC, _VERSION = 0xB007F457, 0x00020001
_HAS_PREFIX, _HAS_VALUES, _HAS_CHILDREN = 0x80000000, 0x40000000, 0x20000000


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """One module: `path` below lib/modules/VERSION, the others by their names with underscores."""

    name: str
    path: str
    depends: tuple[str, ...]
    aliases: tuple[str, ...]
    softdeps: tuple[str, ...]


def read_module_info(path: str, module: bytes) -> ModuleInfo:
    """What a plain module says of itself; `path` is where it lies below lib/modules/VERSION."""
    fields = list(_read_modinfo(module))
    depends = [name for key, value in fields if key == "depends" for name in value.split(",") if name]
    return ModuleInfo(
        name=plain_name(os.path.basename(path)),
        path=path,
        depends=tuple(plain_name(name) for name in depends),
        aliases=tuple(value for key, value in fields if key == "alias"),
        softdeps=tuple(value for key, value in fields if key == "softdep"),
    )


def plain_name(file_name: str) -> str:
    """The kernel writes a module's name with underscores; files may have dashes (virtio-rng.ko.xz)."""
    return file_name.split(".ko", 1)[0].replace("-", "_")


def _read_modinfo(module: bytes) -> Iterator[tuple[str, str]]:
    """NAME=value strings of the ELF section .modinfo (include/linux/moduleparam.h)."""
    for entry in _find_section(module, b".modinfo").split(b"\0"):
        name, equals, value = entry.decode("ascii", "replace").partition("=")
        if equals:
            yield name, value


def _find_section(module: bytes, wanted: bytes) -> bytes:
    """A section of a 64-bit little-endian ELF file (elf(5)); empty where there is none."""
    if module[:6] != b"\x7fELF\x02\x01":
        return b""
    (table,) = struct.unpack_from("<Q", module, 40)
    size, count, names_index = struct.unpack_from("<HHH", module, 58)
    sections = [struct.unpack_from("<IIQQQQ", module, table + number * size) for number in range(count)]
    names = sections[names_index][4]
    for name, _, _, _, offset, length in sections:
        if module[names + name : names + name + len(wanted) + 1] == wanted + b"\0":
            return module[offset : offset + length]
    return b""


def make_tables(modules: Sequence[ModuleInfo], builtin: Iterable[str]) -> dict[str, bytes]:
    """File names and contents of the tables; `builtin` are the lines of the kernel's modules.builtin."""
    by_name = {module.name: module for module in modules}
    lines = {module.name: _make_dependency_line(module, by_name) for module in modules}
    aliases = [(_plain_alias(alias), module.name) for module in modules for alias in module.aliases]
    softdeps = [f"softdep {module.name} {text}" for module in modules for text in module.softdeps]
    return {
        "modules.dep": _join(lines.values()),
        "modules.dep.bin": make_index(list(lines.items())),
        "modules.alias": _join(f"alias {pattern} {name}" for pattern, name in aliases),
        "modules.alias.bin": make_index(aliases),
        "modules.softdep": _join(softdeps),
        "modules.devname": _join(_list_device_names(modules)),
        "modules.builtin.bin": make_index([(plain_name(line.rpartition("/")[2]), "") for line in builtin]),
    }


def _list_device_names(modules: Iterable[ModuleInfo]) -> Iterator[str]:
    """Device files that stand for a module until it is loaded: `MODULE NAME c|bMAJOR:MINOR` (kmod's static-nodes)."""
    for module in modules:
        names = [alias.removeprefix("devname:") for alias in module.aliases if alias.startswith("devname:")]
        numbers = (
            re.fullmatch(r"(c)har-major-(\d+)-(\d+)|(b)lock-major-(\d+)-(\d+)", alias)
            for alias in module.aliases
        )
        for number in numbers:
            if names and number is not None:
                kind, major, minor = (group for group in number.groups() if group)
                yield f"{module.name} {names[0]} {kind}{major}:{minor}"
                break


def _join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _make_dependency_line(module: ModuleInfo, by_name: Mapping[str, ModuleInfo]) -> str:
    """`path: path…`: all that must be loaded before, what comes first last."""
    ordered: list[str] = []
    visited = {module.name}

    def visit(name: str) -> None:
        if name in visited or name not in by_name:  # built in, or missing: the kernel will tell
            return
        visited.add(name)
        for dependency in by_name[name].depends:
            visit(dependency)
        ordered.append(by_name[name].path)

    for dependency in module.depends:
        visit(dependency)
    return " ".join([f"{module.path}:", *reversed(ordered)])


def _plain_alias(alias: str) -> str:
    """Dashes become underscores, but not in a range such as [0-9]."""
    return re.sub(r"\[[^]]*\]|-", lambda found: found[0] if found[0] != "-" else "_", alias)


def make_index(entries: Sequence[tuple[str, str]]) -> bytes:
    """A binary table of keys and values, as kmod's index_write__node in tools/depmod.c lays it out."""
    keys: dict[bytes, list[tuple[int, bytes]]] = {}
    for priority, (key, value) in enumerate(entries):
        if key.isascii():
            keys.setdefault(key.encode(), []).append((priority, value.encode()))
    out = bytearray(struct.pack(">III", _MAGIC, _VERSION, 0))
    root = _write_node(out, sorted(keys.items()), 0)
    struct.pack_into(">I", out, 8, root)
    return bytes(out)


def _find_common_start(left: bytes, right: bytes) -> bytes:
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return left[:length]


def _write_node(out: bytearray, items: Sequence[tuple[bytes, list[tuple[int, bytes]]]], depth: int) -> int:
    """Write the trie of sorted items, which share their first `depth` bytes; returns its offset with flags."""
    prefix = _find_common_start(items[0][0][depth:], items[-1][0][depth:]) if items else b""
    end = depth + len(prefix)
    values = items[0][1] if items and len(items[0][0]) == end else []
    branches: dict[int, list[tuple[bytes, list[tuple[int, bytes]]]]] = {}
    for item in items[1 if values else 0 :]:
        branches.setdefault(item[0][end], []).append(item)
    children = {first: _write_node(out, below, end + 1) for first, below in branches.items()}
    offset = len(out)
    flags = 0
    if prefix:
        out += prefix + b"\0"
        flags |= _HAS_PREFIX
    if children:
        first, last = min(children), max(children)
        out += bytes((first, last))
        out += b"".join(struct.pack(">I", children.get(char, 0)) for char in range(first, last + 1))
        flags |= _HAS_CHILDREN
    if values:
        out += struct.pack(">I", len(values))
        out += b"".join(struct.pack(">I", priority) + value + b"\0" for priority, value in values)
        flags |= _HAS_VALUES
    return offset | flags
