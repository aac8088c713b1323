# SPDX-License-Identifier: Apache-2.0
"""Which kernel modules a guest needs, and in what order the agent loads them.

Distribution kernels build the virtio drivers as modules. Dependencies are read from the modules themselves
(the `depends=` field of their .modinfo section), not from modules.dep, which a package that was only unpacked
lacks. The agent loads plain files by finit_module(2), so compressed modules are unpacked here, on the host.
"""

from __future__ import annotations

import functools
import lzma
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import zstandard

from volant.errors import InvalidInput
from volant.volantd.boot.module_index import plain_name

Bus = Literal["mmio", "pci"]

CORE = ("virtio_blk", "virtio_console", "virtio_rng")
NETWORK = ("virtio_net",)
# Answers CID 2 inside the guest, and only as long as no guest-to-host transport is loaded beside it.
VSOCK_LOOPBACK = ("vsock_loopback",)
# Leads CID 2 out of the guest, to whoever answers on the host.
VSOCK_DEVICE = ("vmw_vsock_virtio_transport",)
BUS: dict[Bus, tuple[str, ...]] = {"mmio": ("virtio_mmio",), "pci": ("virtio_pci",)}


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """One module: `name` with underscores, `path` where the host keeps it, its plain content's file name."""

    name: str
    path: Path

    @property
    def archive_name(self) -> str:
        """The file's name under /volant/modules in the boot archive, as guest.json lists it."""
        return f"{self.name}.ko"

    def read(self) -> bytes:
        """The module's plain content."""
        return read_module(self.path)


def want_modules(bus: Bus, *, network: bool, has_vsock_device: bool = False) -> tuple[str, ...]:
    """Names of the drivers that a guest on this kind of machine wants, without their dependencies."""
    vsock = VSOCK_DEVICE if has_vsock_device else VSOCK_LOOPBACK
    return (*BUS[bus], *CORE, *(NETWORK if network else ()), *vsock)


def order_modules(modules: Path | None, wanted: Iterable[str]) -> list[ModuleFile]:
    """The files of `wanted` with all they depend on, each after its dependencies.

    `modules` is a kernel's lib/modules/VERSION, None for a kernel that has everything built in. Drivers that
    are built in need no file; InvalidInput where one is neither built in nor there.
    """
    return [] if modules is None else list(_order_modules(modules, tuple(wanted)))


@functools.lru_cache(maxsize=16)
def _order_modules(modules: Path, wanted: tuple[str, ...]) -> tuple[ModuleFile, ...]:
    files = {plain_name(path.name): path for path in sorted(modules.glob("kernel/**/*.ko*"))}
    builtin = _read_builtin(modules)
    ordered: dict[str, ModuleFile] = {}

    def visit(name: str) -> None:
        if name in ordered or name in builtin:
            return
        if name not in files:
            raise InvalidInput(
                f"cannot boot a guest with {modules.name}: this kernel has no driver {name}",
                resolution="choose a kernel with virtio drivers, e.g. Debian's linux-image-cloud-amd64",
            )
        module = ModuleFile(name, files[name])
        for dependency in read_dependencies(module.read()):
            visit(dependency)
        ordered[name] = module

    for name in wanted:
        visit(plain_name(name))
    return tuple(ordered.values())


def _read_builtin(modules: Path) -> set[str]:
    listing = modules / "modules.builtin"
    if not listing.is_file():
        return set()
    return {plain_name(Path(line).name) for line in listing.read_text().split()}


def read_dependencies(module: bytes) -> list[str]:
    """Names that a plain module's .modinfo section says it depends on."""
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match.group(1).decode() if match else ""
    return [plain_name(name) for name in names.split(",") if name]


def read_module(path: Path) -> bytes:
    """A module's plain content; CONFIG_MODULE_COMPRESS_* leaves .ko.gz, .ko.xz or .ko.zst."""
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            return zlib.decompress(data, wbits=31)
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
