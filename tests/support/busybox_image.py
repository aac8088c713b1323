# SPDX-License-Identifier: Apache-2.0
"""The file system of a base image that needs no network: busybox and a few of its names."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

APPLETS = ("sh", "wget", "chmod", "chown", "ln", "echo", "sleep", "cat")


def make_busybox_tar(path: Path) -> Path:
    """The same bytes whoever makes it, and whenever. `docker import` and `podman import` take it."""
    busybox = Path(os.path.realpath(str(shutil.which("busybox")))).read_bytes()
    files = (("bin/busybox", busybox, 0o755), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644))
    write_tar(path, ("bin", "etc", "usr", "usr/local", "usr/local/bin"), files, APPLETS)
    return path


def write_tar(
    path: Path, folders: Sequence[str], files: Sequence[tuple[str, bytes, int]], applets: Sequence[str]
) -> None:
    """Folders, then files by name, content and mode, then names of busybox in /bin."""
    with tarfile.open(path, "w") as archive:
        for folder in folders:
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for name, content, mode in files:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
        for applet in applets:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
