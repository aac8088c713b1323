# SPDX-License-Identifier: Apache-2.0
"""What packages of resources give to a backup, and what they are given of one that is restored."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volant.volantd.database import Database


@dataclass(frozen=True, slots=True)
class Keeping:
    """One backup that is being taken. `folder` is its own, on the state's file system; `notes` are for people."""

    folder: Path
    with_plugins: bool = True
    with_memory: bool = False
    notes: list[str] = field(default_factory=list)

    def link(self, path: Path, name: str) -> Path:
        """A second name of a file that never changes, for as long as the backup takes. FileNotFoundError."""
        place = self.folder / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.link(path, place)
        return place

    def copy(self, path: Path, name: str) -> Path:
        """A copy of a small file. FileNotFoundError."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(path, place)
        return place


@dataclass(frozen=True, slots=True)
class Restored:
    """A state that was unpacked into `folder`, to be made right before it takes its place at `state_dir`.

    `notes` is what people have to know or do afterwards.
    """

    database: Database
    folder: Path
    state_dir: Path
    taken_from: str
    taken_at: str
    with_plugins: bool = True
    with_memory: bool = False
    notes: list[str] = field(default_factory=list)

    def map_paths(self, content: Any) -> Any:
        """JSON whose paths below the old state folder are below the new one."""
        match content:
            case str():
                inside = content.removeprefix(f"{self.taken_from}/")
                return content if inside == content else f"{self.state_dir}/{inside}"
            case list():
                return [self.map_paths(item) for item in content]
            case dict():
                return {name: self.map_paths(item) for name, item in content.items()}
        return content
