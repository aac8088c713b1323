# SPDX-License-Identifier: Apache-2.0
"""The guests' kernel: found on this host or fetched as a package, and made ready to boot.

A kernel is an unpacked Debian package (`boot/vmlinuz-VERSION`, `lib/modules/VERSION`) in a folder of ours; it
is never installed on the host, where it would land in the boot loader. x86 kernels are booted by PVH, which
wants the ELF file inside the bzImage (Documentation/arch/x86/boot.rst, "payload_offset"): taking it out once
saves the guest's own decompression at every boot. A kernel without the PVH entry note is booted as it came.
"""

from __future__ import annotations

import bz2
import lzma
import platform
import re
import shutil
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import lz4.block
import zstandard

from volant.contract.agents import Architecture
from volant.errors import InvalidInput, NotFound, ToolFailed, ToolMissing
from volant.process import require_tool, run_tool
from volant.progress import Monitor
from volant.volantd.boot.module_disk import find_module_disk
from volant.whole_file import write_whole_file

PACKAGES: dict[Architecture, str] = {"amd64": "linux-image-cloud-amd64", "arm64": "linux-image-cloud-arm64"}
LZ4_LEGACY_MAGIC = b"\x02\x21\x4c\x18"
LZ4_LEGACY_BLOCK_BYTES = 8 << 20
# xen/include/public/elfnote.h: the 32-bit entry point that PVH loaders jump to.
XEN_ELFNOTE_PHYS32_ENTRY = 18


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted. `modules` is its lib/modules/VERSION, None where all is built in; `module_disk` is
    the disk from which guests take further ones, None where the host cannot make it (it lacks mke2fs). `distributed` is
    the image as it came, which every boot loader takes."""

    version: str
    architecture: Architecture
    image: Path
    modules: Path | None
    module_disk: Path | None = None
    distributed: Path | None = None


def host_architecture() -> Architecture:
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"


def find_kernel(architecture: Architecture, kernels: Path, explicit: Path | None = None) -> Kernel | None:
    """The kernel for guests of an architecture, or None.

    `explicit` (the user's choice) is an image file or a folder with an unpacked package; otherwise the newest
    one in the folder `kernels`, where `install_kernel` puts them. NotFound or InvalidInput if the explicit
    one is no kernel.
    """
    if explicit is not None:
        image = _find_image(explicit) if explicit.is_dir() else explicit
        if image is None or not image.is_file():
            raise NotFound(
                f"cannot use the kernel {explicit}: there is no such file, nor a boot/vmlinuz-* in it",
                resolution="set VOLANT_KERNEL to a kernel image or the folder of an unpacked package",
            )
        return _make_kernel(image, architecture, kernels)
    for folder in list_kernel_folders(architecture, kernels):
        if (found := _find_image(folder)) is not None:
            return _make_kernel(found, architecture, kernels)
    return None


def list_kernel_folders(architecture: Architecture, kernels: Path) -> list[Path]:
    """Those in which there is an image, the newest first."""
    folders = kernels.glob(f"{architecture}-*") if kernels.is_dir() else ()
    with_image = [folder for folder in folders if _find_image(folder) is not None]
    return sorted(with_image, key=lambda folder: _version_key(folder.name), reverse=True)


def require_kernel(architecture: Architecture, kernels: Path, explicit: Path | None = None) -> Kernel:
    """`find_kernel`, with an error that says how to get one."""
    kernel = find_kernel(architecture, kernels, explicit)
    if kernel is None:
        raise NotFound(
            f"cannot boot a guest: there is no kernel for {architecture} in {kernels}",
            resolution="volar setup kernel   (or set VOLANT_KERNEL to a kernel image)",
        )
    return kernel


def _find_image(folder: Path) -> Path | None:
    """The newest boot/vmlinuz-VERSION of an unpacked package."""
    images = [*folder.glob("boot/vmlinuz-*"), *folder.glob("vmlinuz-*")]
    return max(images, key=lambda image: _version_key(image.name)) if images else None


def _version_key(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _make_kernel(image: Path, architecture: Architecture, cache: Path) -> Kernel:
    version = re.sub(r"^(vmlinuz|vmlinux|bzImage|Image)-?", "", image.name)
    candidates = (image.parent.parent / "lib/modules" / version, image.parent / "lib/modules" / version)
    modules = next((folder for folder in candidates if folder.is_dir()), None)
    bootable = extract_vmlinux(image, cache / "vmlinux") if architecture == "amd64" else image
    module_disk = find_module_disk(modules, cache / "modules") if modules is not None else None
    return Kernel(version or image.name, architecture, bootable, modules, module_disk, distributed=image)


def extract_vmlinux(image: Path, folder: Path) -> Path:
    """The PVH-bootable ELF inside an x86 bzImage, kept in `folder`; the image itself where it has none."""
    status = image.stat()
    target = folder / f"{image.name}-{status.st_size:x}-{status.st_mtime_ns:x}"
    if target.is_file():
        return target
    with image.open("rb") as stream:
        if stream.read(4) == b"\x7fELF":
            return image
    payload = unpack_bzimage(image.read_bytes(), str(image))
    if not has_pvh_entry(payload):
        return image
    folder.mkdir(parents=True, exist_ok=True)
    write_whole_file(target, payload, mode=0o644)
    return target


def unpack_bzimage(image: bytes, name: str = "the image") -> bytes:
    """The vmlinux of a bzImage, whichever of the kernel's compressions it uses."""
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise InvalidInput(
            f"cannot boot {name}: it is no x86 Linux kernel",
            resolution="choose a bzImage (vmlinuz-*) or an ELF vmlinux",
        )
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    return decompress_payload(image[begin : begin + length], name)


def decompress_payload(data: bytes, name: str = "the image") -> bytes:
    """Decompress what the kernel's build compressed: a stream, then mostly its size in four bytes
    (ignored)."""
    try:
        if data.startswith(LZ4_LEGACY_MAGIC):
            return decompress_lz4_legacy(data)
        if data.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(wbits=31).decompress(data)
        if data.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
            return lzma.LZMADecompressor().decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        if data.startswith(b"BZh"):
            return bz2.BZ2Decompressor().decompress(data)
    except (
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
        RuntimeError,
        OSError,
        struct.error,
    ) as error:
        raise InvalidInput(f"cannot unpack {name}: its compressed part is damaged ({error})") from error
    if data.startswith(b"\x7fELF"):
        return data
    raise InvalidInput(
        f"cannot unpack {name}: compression with magic {data[:4].hex()} is not known",
        resolution="choose a kernel compressed with gzip, xz, zstd, lz4 or bzip2",
    )


def decompress_lz4_legacy(data: bytes) -> bytes:
    """The "legacy frame" of the kernel's build: magic, then blocks of up to 8 MiB, each after its size.

    A kernel's payload ends in the four bytes of its unpacked size, which look like another block's size.
    """
    position = 4
    blocks = []
    while position + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, position)
        if position + 4 + size > len(data):
            raise InvalidInput("cannot unpack LZ4 data: it is cut short")
        block = data[position + 4 : position + 4 + size]
        blocks.append(_decompress_lz4_block(block))
        position += 4 + size
    return b"".join(blocks)


def _decompress_lz4_block(block: bytes) -> bytes:
    # Untyped; raises LZ4BlockError, a RuntimeError.
    content: bytes = lz4.block.decompress(block, uncompressed_size=LZ4_LEGACY_BLOCK_BYTES)
    return content


def has_pvh_entry(vmlinux: bytes) -> bool:
    """Whether an ELF file has the note XEN_ELFNOTE_PHYS32_ENTRY, without which QEMU cannot start it."""
    if vmlinux[:6] != b"\x7fELF\x02\x01":
        return False
    (header_offset,) = struct.unpack_from("<Q", vmlinux, 32)
    entry_size, entries = struct.unpack_from("<HH", vmlinux, 54)
    for index in range(entries):
        kind, _, offset, _, _, size = struct.unpack_from(
            "<IIQQQQ", vmlinux, header_offset + index * entry_size
        )
        if kind == 4 and _has_note(vmlinux[offset : offset + size], b"Xen\0", XEN_ELFNOTE_PHYS32_ENTRY):
            return True
    return False


def _has_note(notes: bytes, name: bytes, wanted: int) -> bool:
    position = 0
    while position + 12 <= len(notes):
        name_size, content_size, kind = struct.unpack_from("<III", notes, position)
        if kind == wanted and notes[position + 12 : position + 12 + name_size] == name:
            return True
        position += 12 + (name_size + 3 & ~3) + (content_size + 3 & ~3)
    return False


def install_kernel(architecture: Architecture, kernels: Path, monitor: Monitor) -> Kernel:
    """Fetch the distribution's cloud kernel with apt-get and unpack it into `kernels`; needs no root.

    Uses the host's package lists, and lists of our own where the host has none for this architecture (a fresh
    image, a foreign architecture). Raises ToolMissing off Debian and Ubuntu, ToolFailed with apt's own words.
    """
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        try:
            require_tool(tool, package=package)
        except ToolMissing as error:
            raise ToolMissing(
                f"cannot fetch a kernel: this host has no {tool}",
                resolution="unpack any distribution's kernel package and set VOLANT_KERNEL to that folder",
            ) from error
    kernels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kernels, prefix=".fetch-") as name:
        work = Path(name)
        # apt's download sandbox runs as another user, who must reach the folder when we are root.
        work.chmod(0o755)
        package, options = _find_package(architecture, work, monitor)
        monitor.step(f"fetch {package}")
        run_tool(
            ["apt-get", *options, "-q", "download", f"{package}:{architecture}"],
            cwd=work,
            what=f"fetch {package}",
        )
        archive = next(work.glob("*.deb"))
        unpacked = work / "unpacked"
        run_tool(["dpkg-deb", "-x", str(archive), str(unpacked)], what=f"unpack {archive.name}")
        # Newer packages lie under usr/lib: what we read is lib/modules either way.
        if not (unpacked / "lib").exists() and (unpacked / "usr/lib").exists():
            (unpacked / "lib").symlink_to("usr/lib")
        target = kernels / f"{architecture}-{package.removeprefix('linux-image-')}"
        if target.exists():
            shutil.rmtree(target)
        unpacked.rename(target)
    kernel = find_kernel(architecture, kernels)
    if kernel is None:
        raise ToolFailed(f"cannot use {package}: it holds no boot/vmlinuz-*")
    monitor.say(f"kernel {kernel.version} is ready in {target}")
    return kernel


def _find_package(architecture: Architecture, work: Path, monitor: Monitor) -> tuple[str, list[str]]:
    """The real package behind the metapackage, and the apt options under which it was found."""
    meta = PACKAGES[architecture]
    if package := _resolve(meta, architecture, []):
        return package, []
    monitor.step("read the package lists")
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    options = [
        "-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures::={architecture}",
        "-o", f"Dir::State::lists={work}/lists", "-o", f"Dir::State::status={work}/status",
        "-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    run_tool(["apt-get", *options, "-q", "update"], what="read the package lists")
    if package := _resolve(meta, architecture, options):
        return package, options
    raise NotFound(
        f"cannot fetch a kernel: this host's package sources have no {meta}",
        resolution="unpack any distribution's kernel package and set VOLANT_KERNEL to that folder",
    )


def _resolve(meta: str, architecture: Architecture, options: list[str]) -> str | None:
    listing = run_tool(
        ["apt-cache", *options, "depends", "--important", f"{meta}:{architecture}"],
        accepted_exit_codes=(0, 100),
    ).stdout
    match = re.search(r"Depends: (linux-image-[^\s:]+)", listing)
    return match.group(1) if match else None
