# SPDX-License-Identifier: Apache-2.0
"""`lost+found` of the state folder: what no row of the database names. It may be all that is left of somebody's data.

A database may be lost, or an older one restored. So what is unknown at start is moved here and told, never removed;
`volantd import-vms` takes VMs back, and a person removes the rest.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class LostAndFound:
    def __init__(self, state_dir: Path) -> None:
        self.folder = state_dir / "lost+found"

    def keep(self, path: Path, kind: str) -> Path:
        """Move a file or folder here, as KIND-NAME, numbered where that is taken; returns its new place."""
        self.folder.mkdir(exist_ok=True, mode=0o700)
        name = f"{kind}-{path.name}"
        place, number = self.folder / name, 1
        while place.exists() or place.is_symlink():
            number += 1
            place = self.folder / f"{name}.{number}"
        os.rename(path, place)
        logger.warning("%s belongs to nothing in the database: it is in %s now", path, place)
        return place

    def list_all(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []
