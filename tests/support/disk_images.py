# SPDX-License-Identifier: Apache-2.0
"""Images of file systems, as a disk of a plugin may begin with."""

from __future__ import annotations

import hashlib
import time
import uuid
from pathlib import Path
from typing import Literal

from volant.filesystems.empty import write_empty_ext4
from volant.process import run_tool


def make_source(folder: Path, form: Literal["raw", "qcow2"]) -> tuple[bytes, str]:
    """An ext4 file system of 16 MiB with the label `source`, and its checksum."""
    raw, packed = folder / "source.raw", folder / f"source.{form}"
    write_empty_ext4(raw, 16 << 20, label="source", uuid=uuid.uuid4(), timestamp=int(time.time()))
    if form == "qcow2":
        run_tool(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(packed)])
    content = packed.read_bytes()
    return content, describe(content)


def describe(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
