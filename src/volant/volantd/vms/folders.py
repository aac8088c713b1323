# SPDX-License-Identifier: Apache-2.0
"""Folders of this host as a VM has them: which it may have, what its guest is told, and what serves them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from volant.contract.guest_config import HostFolder, HostFolders
from volant.errors import Conflict, InvalidInput, NotFound, NotPermitted
from volant.volantd.folders.serving import Share, keep_serving
from volant.volantd.hypervisors.base import Machine
from volant.volantd.vms.record import AttachedFolder, VmRecord
from volant.volantd.vms.targets import read_target

MOST_FOLDERS = 16


def attach_folders(vm_name: str, wanted: Sequence[tuple[str, str, bool]]) -> list[AttachedFolder]:
    """`wanted`: source, target and whether it is only read. Raises InvalidInput, NotFound, NotPermitted."""
    if len(wanted) > MOST_FOLDERS:
        raise InvalidInput(
            f"cannot mount {len(wanted)} folders in VM {vm_name}: it has at most {MOST_FOLDERS}"
        )
    attached = []
    for source, target, read_only in wanted:
        if not source.startswith("/") or "\0" in source:
            raise InvalidInput(f"cannot mount {source!r}: a folder of the daemon's host has an absolute path")
        check_source(source)
        normal = read_target(target, f"cannot mount {source}", example=f"--mount {source}:/app")
        is_file = not os.path.isdir(source)
        attached.append(AttachedFolder(source=source, target=normal, read_only=read_only, is_file=is_file))
    targets = [each.target for each in attached]
    if twice := [target for target in targets if targets.count(target) > 1]:
        raise InvalidInput(f"cannot mount two folders at {twice[0]}")
    # A folder in another's is mounted after it.
    return sorted(attached, key=lambda each: each.target)


def check_source(source: str) -> None:
    """It is there, and this daemon's user can read it."""
    path = Path(source)
    try:
        if not path.exists():
            raise NotFound(
                f"cannot mount {source}: there is no such folder or file on this host",
                resolution="make it first: a folder that is missing is not made, as a mistyped path would be",
            )
    except PermissionError:
        raise NotPermitted(f"cannot mount {source}: user {os.geteuid()} cannot look into it") from None
    if not (path.is_dir() or path.is_file()):
        raise InvalidInput(f"cannot mount {source}: it is neither a folder nor a file")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0), effective_ids=True):
        raise NotPermitted(
            f"cannot mount {source}: user {os.geteuid()}, as whom this volantd runs, cannot read it",
            resolution="give it access, or run a volantd of its owner's",
        )


def make_mark() -> str:
    """How the host begins on the guest's port; no content of a file can be mistaken for it."""
    return f"volant-folders-{secrets.token_hex(16)}"


def check_folders(record: VmRecord) -> None:
    """Right before a VM starts: each is still there, and of the kind that its guest was told."""
    for folder in record.definition.mounts:
        check_source(folder.source)
        if os.path.isdir(folder.source) == folder.is_file:
            kind = "file" if folder.is_file else "folder"
            raise Conflict(f"cannot start VM {record.name}: {folder.source} is not a {kind} any more")


def make_host_folders(record: VmRecord) -> HostFolders | None:
    if not record.definition.mounts:
        return None
    return HostFolders(
        mark=record.definition.mounts_mark,
        mounts=[
            HostFolder(target=folder.target, read_only=folder.read_only, is_file=folder.is_file)
            for folder in record.definition.mounts
        ],
    )


async def serve_folders(record: VmRecord, machine: Machine, folder: Path) -> None:
    """For as long as the machine runs; `folder` is the VM's own."""
    shares = [Share(each.source, each.read_only) for each in record.definition.mounts]
    await keep_serving(folder, record.definition.mounts_mark, shares, machine.open_folders)
