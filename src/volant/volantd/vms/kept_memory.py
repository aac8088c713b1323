# SPDX-License-Identifier: Apache-2.0
"""The memory of a suspended VM, a folder beside its disk: as long as it is there, the VM has not run since.

It appears whole, which makes the VM suspended whatever its row says, and goes by another rename before the VM's
processors go on: from then on the disk is written and the memory fits it no more. Whoever finds a VM after a crash
needs no more than that. It holds what the guest had in memory: 0600, and never longer than it is of use.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from volant.volantd.vms.record import WakeSource
from volant.whole_file import flush, write_whole_file

logger = logging.getLogger(__name__)

NAME = "memory"
FILE = "wake.json"
# Swept at the daemon's start, as all that is hidden in a VM's folder.
DRAFT, USED = ".memory-new", ".memory-used"


def has_memory(folder: Path) -> bool:
    return (folder / NAME).is_dir()


def find_place(folder: Path) -> Path:
    """Where the memory's files are once they are kept."""
    return folder / NAME


@contextmanager
def draft_memory(folder: Path) -> Iterator[Path]:
    """A hidden folder to write memory to; gone when it is left unless `keep_memory` came first."""
    hidden = folder / DRAFT
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    hidden.chmod(0o711)  # the VM's own user passes; nobody else comes as far as its parent
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def keep_memory(hidden: Path, folder: Path, source: WakeSource) -> None:
    """From now on the VM is suspended. Blocking: it is on the disk when this returns."""
    write_whole_file(hidden / FILE, source.model_dump_json().encode(), mode=0o600)
    sync_files(hidden)
    hidden.rename(find_place(folder))
    flush(folder)


def read_memory(folder: Path) -> WakeSource | None:
    """How to wake from it, or None where there is none that can be read."""
    try:
        return WakeSource.model_validate_json((find_place(folder) / FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        logger.error("the memory in %s cannot be read: %s", folder, error)
        return None


def use_memory(folder: Path) -> None:
    """It is of no use from now on, though a machine may still map it."""
    if has_memory(folder):
        find_place(folder).rename(folder / USED)
        flush(folder)


def discard_memory(folder: Path) -> None:
    """Blocking, and harmless where there is none."""
    use_memory(folder)
    shutil.rmtree(folder / USED, ignore_errors=True)


def sync_files(folder: Path) -> None:
    """Until all of a folder's files, and their names, would be there after a power cut."""
    for path in (*folder.iterdir(), folder):
        flush(path)
