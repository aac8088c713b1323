# SPDX-License-Identifier: Apache-2.0
"""A control group of a test's own with little memory, of whichever version this machine gives: who is put into it and
takes more is killed by the kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup")
EMPTY_SECONDS = 10


@contextlib.contextmanager
def make_memory_group(limit_bytes: int) -> Iterator[Path]:
    """The group's folder; a process joins by its number in `cgroup.procs`. Skips where no group can be made."""
    for parent, limits in (
        (GROUPS, {"memory.max": limit_bytes, "memory.swap.max": 0}),
        (GROUPS / "memory", {"memory.limit_in_bytes": limit_bytes}),
    ):
        group = parent / f"volant-test-{secrets.token_hex(4)}"
        if not any((parent / name).exists() for name in ("cgroup.subtree_control", "memory.limit_in_bytes")):
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / next(iter(limits))).exists():
                for name, value in limits.items():
                    with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                        (group / name).write_text(str(value))
                yield group
                return
        finally:
            _remove(group)
    pytest.skip("no control group with a limit of memory can be made here")


def _remove(group: Path) -> None:
    deadline = time.monotonic() + EMPTY_SECONDS
    while True:
        try:
            os.rmdir(group)
        except OSError:
            assert time.monotonic() < deadline, "somebody is left in the group"
            time.sleep(0.05)
        else:
            return
