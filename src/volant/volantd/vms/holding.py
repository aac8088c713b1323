# SPDX-License-Identifier: Apache-2.0
"""That a VM's guest is held still for a snapshot, as a file in the VM's folder: written before, gone when it goes on.

A daemon that is killed in between leaves a guest that stands still; the next one knows by the file to let it go on.
"""

from __future__ import annotations

from pathlib import Path

NAME = "held"


def mark_held(folder: Path) -> None:
    (folder / NAME).touch(mode=0o600)


def is_held(folder: Path) -> bool:
    return (folder / NAME).exists()


def unmark_held(folder: Path) -> None:
    (folder / NAME).unlink(missing_ok=True)
