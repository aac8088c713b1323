# SPDX-License-Identifier: Apache-2.0
"""The file system of a base image that needs no network: busybox and a few of its names."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

APPLETS = ("sh", "wget", "chmod", "chown", "ln", "echo", "sleep", "cat")


def make_busybox_tar(path: Path) -> Path:
    """The same bytes whoever makes it, and whenever. `docker import` and `podman import` take it."""
    with tarfile.open(path, "w") as archive:
        for folder in ("bin", "etc", "usr", "usr/local", "usr/local/bin"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        busybox = Path(os.path.realpath(str(shutil.which("busybox")))).read_bytes()
        passwd = b"root:x:0:0::/:/bin/sh\n"
        for name, content, mode in (("bin/busybox", busybox, 0o755), ("etc/passwd", passwd, 0o644)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
        for applet in APPLETS:
            member = tarfile.TarInfo(f"bin/{applet}")
            member.type, member.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(member)
    return path
