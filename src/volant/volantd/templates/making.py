# SPDX-License-Identifier: Apache-2.0
"""A template, in `make_template`: a machine boots to where its agent waits to be told which VM it is, or to where a
plugin's workload is up, and its memory is taken. Nothing of any VM is in it: no key, no name, no disk."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from volant.contract.guest_config import GuestConfig
from volant.volantd.boot.initrd import write_initrd
from volant.volantd.clock import now
from volant.volantd.guest.settings_line import wait_for_template
from volant.volantd.hypervisors.base import SOCKET_PATH_LIMIT, Hypervisor, Machine, VmSpec
from volant.volantd.hypervisors.host_process import find_process
from volant.volantd.templates.shape import DISK, INITRD, Shape, make_template_spec
from volant.volantd.templates.store import Template, TemplateStore
from volant.volantd.templates.workload import NAME, NO_CONTROL, held_workload

logger = logging.getLogger(__name__)

BOOT_SECONDS = 180.0
# A template's disk is not looked at: its driver is loaded by the VM that wakes.
DISK_BYTES = 1 << 20


async def make_template(
    shape: Shape, hypervisor: Hypervisor, store: TemplateStore, runtime_dir: Path
) -> Template:
    """Boot one and keep it. Any error of ours leaves no process and no file."""
    began = time.monotonic()
    with store.draft(shape.key) as (_, hidden):
        spec = _place(make_template_spec(shape.spec, hidden, shape.workload), shape.key, runtime_dir)
        try:
            await asyncio.to_thread(_write_files, spec, shape)
            machine = await hypervisor.start(spec)
            try:
                async with _ready(machine, shape):
                    await machine.pause()
                    image = await machine.save_memory(hidden)
            finally:
                await asyncio.shield(machine.kill())
        finally:
            if spec.socket_folder != hidden:
                shutil.rmtree(spec.socket_folder, ignore_errors=True)
        os.chown(hidden, os.geteuid(), os.getegid())  # it was the hypervisor's user's
        kept = {image.state, image.memory} | ({hidden / DISK} if shape.workload is not None else set())
        for path in set(hidden.iterdir()) - kept:
            path.unlink()
        image = replace(
            image, folder=store.folder / shape.key, is_copied=True, is_template=True,
            has_workload=shape.workload is not None,
        )  # fmt: skip
        template = Template(
            key=shape.key, versions=shape.versions, plugin=shape.workload.plugin if shape.workload else "",
            payload=shape.workload.payload if shape.workload else None, vcpu=spec.vcpu, memory_mb=spec.memory_mb,
            accelerator=spec.accelerator, kernel=spec.kernel.name if spec.kernel else "", kernel_file=spec.kernel,
            has_network=bool(spec.nics),
            image=image,
            size_bytes=sum(path.stat().st_blocks * 512 for path in hidden.iterdir()),
            took_seconds=time.monotonic() - began, created_at=now(),
        )  # fmt: skip
        store.publish(template, hidden)
    return template


@asynccontextmanager
async def _ready(machine: Machine, shape: Shape) -> AsyncIterator[None]:
    """Entered when its memory can be taken."""
    if shape.workload is None:
        await wait_for_template(await machine.open_control(), timeout_seconds=BOOT_SECONDS)
        yield
        return
    async with held_workload(machine, shape.workload.keys):
        yield


def _place(spec: VmSpec, key: str, runtime_dir: Path) -> VmSpec:
    """Sockets go to the runtime folder where the path is too long for them; the key is what a user of its own is
    chosen by."""
    fits = len(os.fsencode(spec.socket_folder / "console.sock")) <= SOCKET_PATH_LIMIT
    folder = spec.socket_folder if fits else runtime_dir / f"template-{key[:8]}"
    return replace(spec, id=key[:12], socket_folder=folder)


def _write_files(spec: VmSpec, shape: Shape) -> None:
    assert spec.initrd is not None
    spec.socket_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    disk, workload = spec.disks[0].path, shape.workload
    if workload is not None:
        workload.make_disk(disk)
        config = workload.config.model_copy(update={"unix_time_nanoseconds": time.time_ns()})
        write_initrd(spec.initrd, shape.base, config)
        return
    with disk.open("xb") as stream:
        stream.truncate(DISK_BYTES)
    config = GuestConfig(
        vm_id=NAME, vm_name=NAME, hostname=NAME, root=None, control=NO_CONTROL, modules=list(shape.modules),
        awaits_settings=True,
    )  # fmt: skip
    write_initrd(spec.initrd, shape.base, config)


def sweep(store: TemplateStore, runtime_dir: Path) -> None:
    """At the daemon's start: what was cut off, its process first."""
    for hidden in store.list_hidden():
        if (identity := find_process(os.fsencode(hidden / INITRD))) is not None:
            with suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGKILL)
        shutil.rmtree(hidden, ignore_errors=True)
    for folder in runtime_dir.glob("template-*"):
        shutil.rmtree(folder, ignore_errors=True)
    store.remove_orphans()
