# SPDX-License-Identifier: Apache-2.0
"""Where a plugin, an agent or an archive goes: a place is refused before minutes are spent on what should go there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from volant.errors import NotPermitted, UsageError

_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
}
_NAME_ALONE = "name a file"


def show_path(path: Path) -> str:
    """A path as a person in the current folder would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative == ".." or relative.startswith("../..") else relative


def read_output(text: str) -> Path:
    """The path that somebody typed. Raises UsageError where it can name no file."""
    if not text or text.endswith("/"):
        raise UsageError(f"cannot write {text!r}: it names no file", resolution=_NAME_ALONE)
    return Path(text)


def find_output(target: Path, inputs: Iterable[Path] = ()) -> Path:
    """The file that will be written: `target`, or what it links to. Raises UsageError, NotPermitted.

    Only a regular file is ever replaced, and none of `inputs`.
    """
    shown = show_path(target)
    if str(target) == "-":
        raise UsageError(
            "cannot write to standard output: fledge writes files, and their first bytes last",
            resolution=_NAME_ALONE,
        )
    try:
        _check_name(target, shown)
        # Before its path is resolved: that of a pipe behind /dev/stdout leads to nothing.
        status = _read_status(target)
        place = target.resolve() if target.is_symlink() else target
        _check_name(place, shown)
        if status is not None:
            _check_present(status, shown)
            _check_inputs(status, shown, inputs)
    except (OSError, RuntimeError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "its path is none"
        raise UsageError(f"cannot write {shown}: {cause}", resolution=_NAME_ALONE) from error
    folder = place.parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {shown}: no such folder", resolution=f"mkdir -p {show_path(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(
            f"cannot write {shown}: no permission in {show_path(folder)}",
            resolution="choose another file",
        )
    return place


def _read_status(place: Path) -> os.stat_result | None:
    try:
        return place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_present(status: os.stat_result, shown: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"cannot write {shown}: it is a folder", resolution="use a file name")
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise UsageError(f"cannot write {shown}: it is {kind}", resolution=_NAME_ALONE)


def _check_inputs(status: os.stat_result, shown: str, inputs: Iterable[Path]) -> None:
    for path in inputs:
        try:
            other = path.stat()
        except OSError:
            continue
        if (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino):
            raise UsageError(
                f"cannot write {shown}: the build reads it ({show_path(path)})",
                resolution="choose another file",
            )


def _check_name(place: Path, shown: str) -> None:
    if place.parent.is_dir():
        most = os.pathconf(place.parent, "PC_NAME_MAX")
        length = len(os.fsencode(place.name))
        if length > most:
            raise UsageError(
                f"cannot write {shown[:60]}…: its name of {length} bytes is longer than the {most} of this file system",
                resolution="choose a shorter name",
            )
