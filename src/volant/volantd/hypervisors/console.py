# SPDX-License-Identifier: Apache-2.0
"""The log of a VM's serial console: its last lines, and keeping it small.

The hypervisor appends to the file for as long as it runs, so the file is cut by copying its end over its
beginning (what logrotate calls copytruncate): with O_APPEND the next byte goes to the new end.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LIMIT_BYTES = 4 << 20
KEPT_BYTES = 1 << 20
# Terminal control sequences (ECMA-48) that firmware and kernels write to a console.
CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|\([A-Z0-9])")


def read_last_lines(log: Path, count: int, *, since: int = 0) -> list[str]:
    """Up to `count` last lines that are not blank, as plain text; none where there is no log. What was there before it
    had `since` bytes is left out, unless it has been trimmed meanwhile."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            begin = since if size >= since else 0
            stream.seek(max(begin, size - 65536))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = (CONTROL_SEQUENCE.sub("", line).strip("\r\n\0 ") for line in re.split(r"[\r\n]+", text))
    return [line for line in lines if line][-count:]


def trim_log(log: Path, limit_bytes: int = LIMIT_BYTES, kept_bytes: int = KEPT_BYTES) -> bool:
    """Cut a log that has grown over the limit down to its end; whether that was done.

    Lines that arrive between reading the end and cutting are lost: a console may lose some of a flood.
    """
    try:
        with log.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size <= limit_bytes:
                return False
            stream.seek(size - kept_bytes)
            end = stream.read()
            end = end[end.find(b"\n") + 1 :]
            stream.seek(0)
            stream.write(end)
            stream.truncate()
    except FileNotFoundError:
        return False
    return True
