# SPDX-License-Identifier: Apache-2.0
"""VMs in a backup: each one's disk of one instant, and what describes it.

One that runs is held still by its agent for the instant in which QEMU begins to copy what it has written; whole systems
and guests that do not answer are copied all the same, and find their disk as after a power cut.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from volant.errors import InvalidInput, NotFound, ToolFailed, Unreachable
from volant.process import run_tool
from volant.volantd.backup.kept import Keeping, Restored
from volant.volantd.hypervisors.base import MachineState
from volant.volantd.vms.disks import (
    check_layer,
    list_chain,
    make_overlay,
    read_backing,
    read_virtual_size,
    run_qemu_img,
)
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.holding import hold
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.running_vm import RunningVm
from volant.volantd.vms.states import WITH_PROCESS, VmState
from volant.volantd.vms.vm_file import NAME as VM_FILE

AGENT_SECONDS = 5.0
ATTEMPTS = 3
DISK = "root.qcow2"
# Made anew at each start, or of no use without its process.
LEFT_OUT = frozenset({DISK, f"{DISK}.next", "boot.cpio", "seed.iso", "held", "guest.json"})


async def keep(fleet: Fleet, keeping: Keeping) -> AsyncIterator[tuple[str, Path]]:
    for record in fleet.list_all():
        folder = f"vms/{record.id}"
        try:
            async with fleet.locked(record.id) as vm:
                await _copy(vm, keeping, folder, fleet.domain.plugins.load(record.plugin_reference).format)
        except NotFound:
            continue  # deleted meanwhile
        for path in sorted((keeping.folder / folder).iterdir()):
            yield f"{folder}/{path.name}", path


async def _copy(vm: RunningVm, keeping: Keeping, folder: str, payload_format: str) -> None:
    """Everything of one VM into the backup's own folder, and a second name of each layer below its disk."""
    for path in vm.files.folder.iterdir():
        if path.is_file() and path.name not in LEFT_OUT and not path.name.startswith("."):
            with suppress(FileNotFoundError):
                await asyncio.to_thread(keeping.copy, path, f"{folder}/{path.name}")
    if not vm.files.disk.exists():
        return
    for attempt in range(ATTEMPTS):
        target = keeping.folder / folder / DISK
        target.unlink(missing_ok=True)
        try:
            await _copy_disk(vm, vm.record, target, keeping, payload_format)
            break
        except ToolFailed:
            # Where the VM ended meanwhile, its disk is at rest now.
            if attempt + 1 == ATTEMPTS:
                raise
    for layer in list_chain(target):
        if layer.parent.name == "layers":
            keeping.link(layer, f"layers/{layer.name}")


async def _copy_disk(
    vm: RunningVm, record: VmRecord, target: Path, keeping: Keeping, payload_format: str
) -> None:
    machine = vm.monitor.machine if vm.monitor is not None else None
    if machine is None or machine.state is MachineState.ENDED:
        if record.state in WITH_PROCESS and vm.monitor is None:
            raise Unreachable(f"cannot back up VM {record.name}: nothing is known of its process")
        if record.state is VmState.SUSPENDED:
            keeping.notes.append(
                f"VM {record.name} is suspended: its memory is not in the backup, only its disk"
            )
        await asyncio.to_thread(
            run_tool, ["cp", "--reflink=auto", str(vm.files.disk), str(target)], what=f"copy {vm.files.disk}"
        )
        return
    backing = read_backing(vm.files.disk)
    assert backing is not None, "a VM's disk stands on something"
    backing_format = "qcow2" if backing.parent.name == "layers" else payload_format
    await asyncio.to_thread(make_overlay, target, backing, backing_format, read_virtual_size(vm.files.disk))
    async with AsyncExitStack() as stack:
        if not await hold(vm, record, AGENT_SECONDS, stack):
            keeping.notes.append(f"VM {record.name} was not held still: its disk is as after a power cut")
        await machine.copy_disk(0, target, stack.aclose)


def settle(restored: Restored) -> None:
    """All of them are stopped here, and paths are this host's. Rows and folders go together or not at all."""
    database, folders = restored.database, restored.folder / "vms"
    there = {path.name for path in folders.iterdir()} if folders.is_dir() else set()
    for row in database.fetch_all("SELECT id, name, state, deleting, spec, definition FROM vms"):
        if row["deleting"] or row["id"] not in there:
            database.execute("DELETE FROM vms WHERE id = ?", (row["id"],))
            if not row["deleting"]:
                restored.notes.append(
                    f"VM {row['name']} was made while the backup was taken, and is not in it"
                )
            continue
        there.remove(row["id"])
        spec, definition = (_map_json(restored, row[name]) for name in ("spec", "definition"))
        if not restored.with_memory:
            definition = json.dumps({**json.loads(definition or "{}"), "wakes_from": None})
        database.execute(
            "UPDATE vms SET process = NULL, wanted = 0, pending = '[]', restarts = 0, spec = ?, definition = ?"
            " WHERE id = ?",
            (spec, definition, row["id"]),
        )
        if row["state"] in (*WITH_PROCESS, VmState.SUSPENDED):
            reason = f"restored from the backup of {restored.taken_at}"
            database.execute("UPDATE vms SET state = 'stopped', reason = ? WHERE id = ?", (reason, row["id"]))
        _settle_folder(restored, folders / row["id"])
    for name in there:
        shutil.rmtree(folders / name)


def _settle_folder(restored: Restored, folder: Path) -> None:
    description = folder / VM_FILE
    if description.exists():
        mapped = _map_json(restored, description.read_text())
        description.write_text(mapped or "")
    if (folder / DISK).exists():
        rebase(restored, folder / DISK)


def _map_json(restored: Restored, text: str | None) -> str | None:
    return None if text is None else json.dumps(restored.map_paths(json.loads(text)))


def rebase(restored: Restored, disk: Path) -> None:
    """Have a disk stand on the layer or payload of this state folder. InvalidInput where it names anything else."""
    check_layer(disk)
    backing = read_backing(disk)
    name = Path(restored.map_paths(str(backing)))
    if (
        name == restored.state_dir / "layers" / name.name
        and (restored.folder / "layers" / name.name).exists()
    ):
        backing_format = "qcow2"
    elif name == restored.state_dir / "plugins" / "sha256" / name.name:
        row = restored.database.fetch_one(
            "SELECT format FROM plugins WHERE checksum = ?", (f"sha256:{name.name}",)
        )
        backing_format = row["format"] if row is not None else ""
    else:
        backing_format = ""
    if not backing_format:
        raise InvalidInput(f"cannot restore the backup: {disk.name} stands on {backing}, which is not in it")
    run_qemu_img(disk, "rebase", "-u", "-f", "qcow2", "-F", backing_format, "-b", str(name), str(disk))
