# SPDX-License-Identifier: Apache-2.0
"""What a disk of a plugin holds from the start where it is not empty: the image at an address, checked by digest."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

from volant.contract.manifest import Disk
from volant.contract.volume_sizes import LARGEST_BYTES, SMALLEST_BYTES, STEP_BYTES
from volant.errors import Conflict, InvalidInput, StorageFull
from volant.volantd.plugins.sources import Download
from volant.volantd.vms.disks import check_layer, list_chain, run_qemu_img
from volant.volantd.vms.making import Tell
from volant.volantd.volumes.store import DISK, read_volume_size

CHUNK_BYTES = 1 << 20
# ext4(5): the superblock is 1,024 bytes behind the beginning, its magic number 56 bytes behind that.
MAGIC_AT, MAGIC = 1024 + 56, b"\x53\xef"


def fetch_disk(disk: Disk, folder: Path, cancelled: threading.Event, tell: Tell = lambda *_: None) -> int:
    """Write what a manifest's disk begins with as `DISK` in `folder`; returns its bytes. Blocking.

    `tell` is told the bytes that were fetched, and how many there are.
    """
    fetched, raw = folder / "fetched", folder / DISK
    try:
        _fetch(disk, fetched, cancelled, tell)
        if disk.format == "qcow2":
            check_layer(fetched)
            if len(list(list_chain(fetched))) > 1:
                raise InvalidInput(f"cannot use disk {disk.name}: it stands on another disk")
        # Holes are no bytes on the host's disk.
        run_qemu_img(raw, "convert", "-f", disk.format, "-O", "raw", str(fetched), str(raw))
        fetched.unlink()
        size_bytes = _choose_size(disk, raw)
        os.truncate(raw, size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"cannot make disk {disk.name}: the host's disk is full", resolution="free some space"
            ) from error
        raise
    raw.chmod(0o600)
    return size_bytes


def _fetch(disk: Disk, target: Path, cancelled: threading.Event, tell: Tell) -> None:
    assert disk.source is not None
    digest = hashlib.sha256()
    with Download(disk.source) as download, target.open("xb") as file:
        while data := download.read(CHUNK_BYTES):
            if cancelled.is_set():
                raise Conflict(f"cannot make disk {disk.name}: its VM was deleted meanwhile")
            if file.tell() > LARGEST_BYTES:
                raise InvalidInput(f"cannot make disk {disk.name}: it is too large")
            digest.update(data)
            file.write(data)
            tell(file.tell(), download.length)
    if (found := f"sha256:{digest.hexdigest()}") != disk.checksum:
        raise InvalidInput(
            f"cannot use disk {disk.name}: {disk.source} answers with something else than the manifest says",
            details=[f"manifest: {disk.checksum}", f"fetched:  {found}"],
        )


def _choose_size(disk: Disk, raw: Path) -> int:
    """As large as it is, or as the manifest wants it: the guest grows the file system."""
    with raw.open("rb") as file:
        file.seek(MAGIC_AT)
        if file.read(len(MAGIC)) != MAGIC:
            raise InvalidInput(
                f"cannot use disk {disk.name}: there is no ext4 file system at its beginning",
                resolution="make the image of the file system itself, without partitions",
            )
    own = -(-raw.stat().st_size // STEP_BYTES) * STEP_BYTES
    wanted = read_volume_size(disk.size) if disk.size else SMALLEST_BYTES
    return read_volume_size(str(max(own, wanted)))
