# SPDX-License-Identifier: Apache-2.0
"""Which file of the build context becomes a given file of the image, as far as COPY, ADD and stages tell it."""

from __future__ import annotations

import glob
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.fledge.ignore_file import IgnoreFile
from volant.fledge.instructions import Instruction
from volant.fledge.stages import Stage, chain_of, find_stage

# From stage to stage to stage: nobody hands a config further, and a hostile file would cost a doubling for each.
MAX_STAGES = 8


@dataclass(frozen=True)
class BuildContext:
    """The folder that is sent to the builder, without what the ignore file keeps out."""

    folder: Path
    ignore: IgnoreFile

    def find_matches(self, source: str) -> list[str]:
        """The paths that a source of COPY matches, relative to the folder; ignored ones are among them."""
        pattern = posixpath.normpath(source.lstrip("/") or ".")
        if pattern.startswith("..") or "\0" in pattern:
            return []
        return sorted(glob.iglob(pattern, root_dir=self.folder, include_hidden=True))

    def is_sent(self, path: str) -> bool:
        """Whether a path, or anything below it, reaches the builder."""
        if path == "." or not self.ignore.ignores(path):
            return True
        below = (self.folder / path).rglob("*")
        return any(not self.ignore.ignores(entry.relative_to(self.folder).as_posix()) for entry in below)


def find_copied(
    context: BuildContext, stages: Sequence[Stage], stage: Stage, wanted: str, depth: int = 0
) -> Path | None:
    """The file of the context that lies at `wanted`, an absolute path, when a stage has run; None if none does."""
    found: Path | None = None
    if depth > MAX_STAGES:
        return None
    for part in chain_of(stages, stage):
        for instruction, folder in zip(part.instructions, part.folders, strict=True):
            if instruction.keyword not in ("COPY", "ADD") or "<<" in instruction.rest:
                continue
            origin = instruction.flag("from")
            for source, target in _copies(instruction, folder):
                if origin is None:
                    found = _find_in_context(context, source, target, wanted) or found
                elif other := find_stage(stages[: stages.index(part)], origin):
                    inside = _path_inside(source, target, wanted)
                    found = (
                        find_copied(context, stages, other, inside, depth + 1) if inside else None
                    ) or found
    return found


def _copies(instruction: Instruction, folder: str) -> Iterator[tuple[str, str]]:
    """Each source of a COPY with its absolute target, which ends in a slash where it is a folder for sure."""
    *sources, target = instruction.words() or [""]
    place = posixpath.join(folder or "/", target)
    is_folder = len(sources) > 1 or target.endswith(("/", "/.")) or target in (".", "..")
    place = posixpath.normpath(place) + ("/" if is_folder and posixpath.normpath(place) != "/" else "")
    for source in sources:
        yield source, place


def _find_in_context(context: BuildContext, source: str, target: str, wanted: str) -> Path | None:
    for match in context.find_matches(source):
        local = find_mapped(context.folder / match, target, wanted)
        if local is not None and context.is_sent(local.relative_to(context.folder).as_posix()):
            return local
    return None


def find_mapped(local: Path, guest: str, wanted: str) -> Path | None:
    """The local file that lies at `wanted` when `local` is put at `guest`, as COPY and mappings do it."""
    if local.is_dir():
        below = posixpath.relpath(wanted, guest or "/")
        return local / below if not below.startswith("..") and (local / below).is_file() else None
    place = posixpath.join(guest, local.name) if guest.endswith("/") else guest
    return local if place == wanted else None


def _path_inside(source: str, target: str, wanted: str) -> str | None:
    """Where `wanted` was in the stage that `source` is copied from: a file, or something below a folder."""
    source = posixpath.join("/", source)
    place = posixpath.join(target, posixpath.basename(source)) if target.endswith("/") else target
    if place == wanted:
        return posixpath.normpath(source)
    below = posixpath.relpath(wanted, target)
    return None if below.startswith("..") else posixpath.normpath(posixpath.join(source, below))
