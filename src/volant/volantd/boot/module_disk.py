# SPDX-License-Identifier: Apache-2.0
"""A read-only disk with a kernel's modules, made once per kernel and shared by every VM that boots it.

A guest boots with the dozen modules that its devices need (modules.py) and takes further ones from this disk when
something asks for them. It is an ext4 file system, which every kernel of ours has built in, because it must be mounted
before any module can come from it. It holds what lib/modules/VERSION holds, the modules unpacked, and modprobe's
tables. Nothing of the host or of another VM is on it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from volant.process import find_tool, run_tool
from volant.volantd.boot.module_index import ModuleInfo, make_tables, read_module_info
from volant.volantd.boot.modules import read_module

# Part of the key of cached disks: to be changed with what is on them.
LAYOUT = "1"
BLOCK_BYTES = 4096
# Inode tables, bitmaps and directories: generous for the few thousand files of a distribution.
METADATA_BYTES = 8 << 20
KEPT_TABLES = ("modules.order", "modules.builtin", "modules.builtin.modinfo")


def find_module_disk(modules: Path, cache: Path) -> Path | None:
    """The disk for a kernel's lib/modules/VERSION, made in `cache` where it is not there yet; blocking, some seconds
    then. None on a host without mke2fs: guests do without."""
    target = cache / f"{modules.name}-{_make_key(modules, modules.stat().st_mtime_ns)}.img"
    if target.is_file():
        return target
    mke2fs = find_tool("mke2fs")
    return None if mke2fs is None else _make_disk(mke2fs, modules, target)


@functools.lru_cache(maxsize=8)
def _make_key(modules: Path, _changed_at: int) -> str:
    digest = hashlib.sha256(LAYOUT.encode())
    for path in _list_modules(modules):
        status = path.stat()
        digest.update(f"{path.relative_to(modules)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _list_modules(modules: Path) -> list[Path]:
    return sorted(path for path in modules.glob("kernel/**/*.ko*") if path.is_file())


def _make_disk(mke2fs: str, modules: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as name:
        folder, draft = Path(name) / "modules", Path(name) / "disk.img"
        size_bytes = _fill_folder(folder, modules)
        run_tool(
            [
                mke2fs, "-q", "-t", "ext4", "-b", str(BLOCK_BYTES), "-m", "0", "-i", "16384", "-L", "modules",
                "-O", "^has_journal,^resize_inode,^metadata_csum", "-E", "root_owner=0:0",
                "-d", str(folder), str(draft), f"{size_bytes >> 10}k",
            ],
            what=f"make the disk of kernel modules for {modules.name}",
        )  # fmt: skip
        draft.chmod(0o444)
        os.replace(draft, target)
    return target


def _fill_folder(folder: Path, modules: Path) -> int:
    """Write what the disk is to hold into a new folder; returns the size that a disk of it needs."""
    found: list[ModuleInfo] = []
    folder.mkdir()
    for path in _list_modules(modules):
        place = path.relative_to(modules)
        plain = place.with_name(place.name.split(".ko", 1)[0] + ".ko")
        content = read_module(path)
        found.append(read_module_info(str(plain), content))
        (folder / plain).parent.mkdir(parents=True, exist_ok=True)
        (folder / plain).write_bytes(content)
    for name in KEPT_TABLES:
        if (modules / name).is_file():
            shutil.copyfile(modules / name, folder / name)
    listing = modules / "modules.builtin"
    builtin = listing.read_text().split() if listing.is_file() else []
    for name, content in make_tables(found, builtin).items():
        (folder / name).write_bytes(content)
    sizes = (path.stat().st_size for path in folder.rglob("*"))
    return METADATA_BYTES + sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)
