# SPDX-License-Identifier: Apache-2.0
"""A disk, and the kernel and boot archive that boot it, as a container image: what KubeVirt calls a containerDisk.

The disk is the one file in /disk, owned by 107, who is qemu in KubeVirt's containers; what boots it is in /boot, where
`kernelBoot` finds it in the same image. Each is a layer, the disk's first: all that is made of one plugin share it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from volant.contract.boot_files import DISK, INITRD, KERNEL, BootDocument
from volant.errors import InvalidInput
from volant.registries.layout import MANIFEST_TYPE, Layout
from volant.tar_entries import END, make_header, make_padding
from volant.volar.export.boot_stream import BootFile

QEMU_ID = 107
KERNEL_PATH, INITRD_PATH = f"/boot/{KERNEL}", f"/boot/{INITRD}"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
# As gzip(1) does; less is hardly quicker with what kernels and boot archives are made of.
GZIP_LEVEL, GZIP_BITS = 6, 31


@dataclass(frozen=True, slots=True)
class Layer:
    """`diff_id`: the digest of its bytes before they were compressed."""

    descriptor: dict[str, Any]
    diff_id: str


def write_disk_image(layout: Layout, document: BootDocument, files: Iterable[BootFile], title: str) -> str:
    """The digest of the image that the layout is of afterwards."""
    disk: list[Layer] = []
    boot: list[tuple[str, int, bytes]] = []
    for file in files:
        if file.name == DISK:
            name = f"disk/disk.{'qcow2' if document['disk_format'] == 'qcow2' else 'img'}"
            # A QCOW2 of ours is compressed; a raw disk is empty for the most part.
            disk.append(
                _write_layer(
                    layout,
                    _pack("disk", [(name, file.size_bytes, file.content)]),
                    compresses=document["disk_format"] != "qcow2",
                )
            )
        elif file.name in (KERNEL, INITRD):
            boot.append((f"boot/{file.name}", file.size_bytes, b"".join(file.content)))
        else:
            raise InvalidInput(f"cannot export: the daemon sent {file.name!r}, which is nothing to boot")
    packed = _pack("boot", [(name, size, [content]) for name, size, content in boot])
    layers = [*disk, *([_write_layer(layout, packed, compresses=True)] if boot else [])]
    config = {
        "architecture": document["architecture"],
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    written = layout.write_manifest(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, **layout.write_document(config)},
            "layers": [layer.descriptor for layer in layers],
            "annotations": {"org.opencontainers.image.title": title},
        }
    )
    digest: str = written["digest"]
    return digest


def _pack(folder: str, files: Iterable[tuple[str, int, Iterable[bytes]]]) -> Iterator[bytes]:
    """A layer's tar: the same for the same files, whoever packs them and when."""
    yield make_header(f"{folder}/", 0, mode=0o755, owner=QEMU_ID)
    for name, size, content in files:
        yield make_header(name, size, mode=0o440, owner=QEMU_ID)
        yield from content
        yield make_padding(size)
    yield END


def _write_layer(layout: Layout, chunks: Iterator[bytes], *, compresses: bool) -> Layer:
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    written = layout.write_chunks(_compress(hashed()) if compresses else hashed())
    kind = f"{LAYER_TYPE}+gzip" if compresses else LAYER_TYPE
    return Layer({"mediaType": kind, **written}, f"sha256:{digest.hexdigest()}")


def _compress(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """gzip without a time of day."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=GZIP_BITS)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
