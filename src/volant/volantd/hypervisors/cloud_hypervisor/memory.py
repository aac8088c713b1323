# SPDX-License-Identifier: Apache-2.0
"""A machine's memory and devices as two files, and a folder that a machine wakes from (docs/snapshot_restore.md there).

Cloud Hypervisor writes a snapshot's three files to a folder and reads them from one; confined, it can do so in one
folder of its own. Memory and state are moved out of there and linked in again. The third file, which says what machine
it was, is made anew: disks, sockets and taps are those of the VM that wakes, and devices are known by their ids.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from volant.errors import StorageFull, ToolFailed
from volant.volantd.hypervisors.base import MemoryImage, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.api import VmmApi
from volant.volantd.hypervisors.cloud_hypervisor.configuration import (
    VmmFiles,
    find_files,
    list_taps,
    make_net_config,
    make_vm_config,
)

STATE, PAGES, CONFIG = "state.json", "memory-ranges", "config.json"


async def save_memory(api: VmmApi, files: VmmFiles, folder: Path) -> MemoryImage:
    """Of a paused machine, to `folder`. Raises ToolFailed or StorageFull, with no file left."""
    remove_memory(files)
    image = MemoryImage(folder, has_pages=True)
    try:
        await api.put("vm.snapshot", {"destination_url": f"file://{files.folder}"})
        _take(files.folder / STATE, image.state)
        _take(files.folder / PAGES, image.memory)
    except (ToolFailed, OSError) as error:
        for path in (image.state, image.memory):
            path.unlink(missing_ok=True)
        if "No space left" in str(error):
            raise StorageFull(
                "cannot keep the machine's memory: the host's disk is full",
                resolution="free some space in the state folder",
            ) from error
        if isinstance(error, OSError):
            raise ToolFailed(f"cannot keep the machine's memory: {error}") from error
        raise
    finally:
        remove_memory(files)
    return image


def _take(source: Path, target: Path) -> None:
    """Ours from now on; sockets may lie on another file system than the state."""
    shutil.move(source, target)
    os.chown(target, os.geteuid(), os.getegid())
    target.chmod(0o600)


def make_restored_config(spec: VmSpec, landlock: int) -> dict[str, Any]:
    """What the machine is that wakes. `fds` says that a NIC comes with a descriptor; its number counts for nothing."""
    config = make_vm_config(spec, landlock)
    nets = [{**make_net_config(index, nic), "fds": [-1]} for index, nic in enumerate(list_taps(spec))]
    return {**config, "net": nets} if nets else config


def make_restore_request(spec: VmSpec) -> dict[str, Any]:
    nets = [{"id": f"net{index}", "num_fds": 1} for index, _ in enumerate(spec.nics)]
    source = {"source_url": f"file://{find_files(spec).folder}"}
    return {**source, "net_fds": nets} if nets else source


@contextmanager
def laid_out(spec: VmSpec, landlock: int) -> Iterator[None]:
    """While the machine is made of it, its folder holds the memory that it wakes from. OSError."""
    image = spec.wakes_from
    if image is None:
        yield
        return
    files = find_files(spec)
    remove_memory(files)
    try:
        for source, name in ((image.state, STATE), (image.memory, PAGES)):
            _link(source, files.folder / name)
        (files.folder / CONFIG).write_text(json.dumps(make_restored_config(spec, landlock)))
        (files.folder / CONFIG).chmod(0o644)
        yield
    finally:
        remove_memory(files)


def _link(source: Path, target: Path) -> None:
    """The VM may be a user of its own, who reads it: nobody else gets as far as its folder."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    if os.geteuid() == 0:
        target.chmod(0o644)


def remove_memory(files: VmmFiles) -> None:
    for name in (STATE, PAGES, CONFIG):
        with suppress(OSError):
            (files.folder / name).unlink()
