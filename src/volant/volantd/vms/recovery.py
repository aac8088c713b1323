# SPDX-License-Identifier: Apache-2.0
"""Folders without a row: set aside at the daemon's start, and taken back as VMs by `volantd import-vms`.

Both hold the state folder's lock. A process that still runs from such a folder keeps it where it is: it is told, and
adopted once its VM has been taken back.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from volant.errors import Conflict, InvalidInput, VolantError
from volant.volantd.hypervisors.host_process import list_commands
from volant.volantd.lost_and_found import LostAndFound
from volant.volantd.settings import Settings
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.lifecycle import VmFiles
from volant.volantd.vms.networking import remove_stray_taps
from volant.volantd.vms.vm_file import NAME, VmFile, read_vm_file

logger = logging.getLogger(__name__)


def refuse_fresh_database(settings: Settings) -> None:
    """Conflict where VMs or plugins are there and the database that named them is not."""
    if settings.database.exists() and settings.database.stat().st_size:
        return
    vms = list_entries(settings.vms_dir)
    payloads = list_entries(settings.state_dir / "plugins" / "sha256")
    if vms or payloads:
        raise Conflict(
            f"cannot start volantd: its database {settings.database} is gone",
            details=[f"{len(vms)} VMs and {len(payloads)} plugins are there, and nothing says what they are"],
            resolution="restore it from a backup, or rebuild it from the VMs' folders: volantd import-vms",
        )


def list_entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def set_aside_unknown(domain: Domain) -> None:
    """Move away what no row names, and tell it. A VM that was being deleted still has its row."""
    lost = LostAndFound(domain.settings.state_dir)
    known = domain.registry.list_ids()
    for folder in domain.settings.runtime_dir.glob("vm-*"):
        if folder.name.removeprefix("vm-") not in known and not find_processes_in(folder, domain.settings):
            shutil.rmtree(folder, ignore_errors=True)  # sockets, of which nobody can make use any more
    try:
        if stray := remove_stray_taps(known):
            logger.warning("removed the network devices of VMs that are gone: %s", ", ".join(stray))
    except VolantError as error:
        logger.warning("network devices of VMs that are gone stay: %s", error.what)
    for folder in list_entries(domain.settings.vms_dir):
        if folder.name in known:
            continue
        pids = find_processes_in(folder, domain.settings)
        if pids:
            logger.warning("process %s runs VM %s, which is not in the database", pids, folder.name)
            domain.events.add("unknown_process", "", id=folder.name, pids=pids, folder=str(folder))
        elif folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()  # a create that was cut off
        else:
            place = lost.keep(folder, "vm")
            domain.events.add("lost_and_found", "", id=folder.name, path=str(place))


def remove_debris(files: VmFiles, *, is_running: bool) -> None:
    """What a daemon that was killed was writing into a VM's folder, and the sockets of a process that is gone."""
    for path in files.folder.glob(".*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in () if is_running else files.sockets.glob("*.sock"):
        path.unlink()


def find_processes_in(folder: Path, settings: Settings) -> list[int]:
    """Processes of this user's hypervisor that were started for a VM with this folder."""
    marks = [os.fsencode(f"{folder}/"), os.fsencode(f"{settings.runtime_dir}/vm-{folder.name}/")]
    return [pid for pid, command in list_commands() if any(mark in command for mark in marks)]


@dataclass(frozen=True, slots=True)
class Import:
    """What became of one folder; `problem` empty: the VM is there again."""

    folder: Path
    name: str
    problem: str = ""


def import_vms(domain: Domain) -> list[Import]:
    """Take back all VMs that a folder describes and no row names, from `vms` and `lost+found`."""
    known = domain.registry.list_ids()
    lost = LostAndFound(domain.settings.state_dir)
    folders = [*list_entries(domain.settings.vms_dir), *lost.list_all()]
    results = []
    for folder in folders:
        if folder.name in known or not (folder / NAME).is_file():
            continue
        name = folder.name
        try:
            file = read_vm_file(folder)
            name = file.name
            import_vm(domain, folder, file)
        except VolantError as error:
            results.append(Import(folder, name, str(error)))
        else:
            results.append(Import(folder, name))
    return results


def import_vm(domain: Domain, folder: Path, file: VmFile) -> None:
    """The row first, then the folder to its place: cut off in between, the next start finds a row without a folder
    and the next import a folder whose row is there."""
    home = domain.settings.vms_dir / file.id
    if home.parent != domain.settings.vms_dir or (folder != home and home.exists()):
        raise InvalidInput(f"cannot import {folder}: its id {file.id!r} is not its own")
    process = domain.find_hypervisor(file.hypervisor).find_process(file.spec) if file.spec else None
    if folder != home:
        domain.settings.vms_dir.mkdir(exist_ok=True, mode=0o700)
        os.rename(folder, home)
    try:
        domain.plugins.restore_row(file.plugin_row, LostAndFound(domain.settings.state_dir).folder)
        domain.registry.restore(file.make_record(process))
    except sqlite3.IntegrityError as error:
        if folder != home:
            os.rename(home, folder)
        raise Conflict(
            f"cannot import VM {file.name}: its name or address {file.address} is taken by another VM",
            resolution="delete that one, then import again",
        ) from error
