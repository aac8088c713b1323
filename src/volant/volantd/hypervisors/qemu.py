# SPDX-License-Identifier: Apache-2.0
"""QEMU as a hypervisor: looking at the host, starting, adopting."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from volant.contract.agents import Architecture
from volant.errors import VolantError
from volant.forked_programs import start_forked
from volant.process import find_tool, require_tool
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.accelerator import AcceleratorProbe
from volant.volantd.hypervisors.base import (
    Capabilities,
    HostSupport,
    HypervisorKind,
    MachineState,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.hypervisors.confinement import find_confinement, make_confined_arguments
from volant.volantd.hypervisors.groups import enter_group, make_group
from volant.volantd.hypervisors.host_process import HostProcess, find_process, take_child
from volant.volantd.hypervisors.nested import check_nested
from volant.volantd.hypervisors.qemu_arguments import make_qemu_arguments, name_sockets, number_taps
from volant.volantd.hypervisors.qemu_machine import QemuMachine
from volant.volantd.hypervisors.qemu_memory import lend_memory
from volant.volantd.hypervisors.qemu_traits import find_traits

logger = logging.getLogger(__name__)

PROGRAMS: dict[Architecture, tuple[str, str]] = {
    "amd64": ("qemu-system-x86_64", "qemu-system-x86"),
    "arm64": ("qemu-system-aarch64", "qemu-system-arm"),
}
ADOPT_TIMEOUT_SECONDS = 5.0


class Qemu:
    """The hypervisor QEMU on this host. `cache`: a folder for what was found out about the host; `state_dir`: what
    VMs see nothing of but their own."""

    kind: HypervisorKind = "qemu"
    capabilities = Capabilities(
        firmware=True,
        power_button=True,
        pause=True,
        snapshot=True,
        restore=True,
        user_network=True,
        lent_taps=True,
        templates=True,
        emulation=True,
        live_layers=True,
        knows_secret_users=True,
        disk_limits=True,
        live_resize=False,
        folders=True,
    )

    def __init__(
        self,
        cache: Path,
        *,
        state_dir: Path | None = None,
        wanted_accelerator: Literal["auto", "kvm", "tcg"] = "auto",
    ) -> None:
        self._state_dir = state_dir
        self._probe = AcceleratorProbe(cache, wanted_accelerator)

    def is_installed(self, architecture: Architecture) -> bool:
        return find_tool(PROGRAMS[architecture][0]) is not None

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        name, package = PROGRAMS[architecture]
        program = require_tool(name, package=package)
        return await asyncio.to_thread(
            self._probe.find_support, program, architecture, kernel=kernel, firmware=firmware
        )

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return find_traits(spec)

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> QemuMachine:
        check_nested(spec)
        name, package = PROGRAMS[spec.architecture]
        arguments = make_qemu_arguments(spec, require_tool(name, package=package))
        for stale in name_sockets(spec.socket_folder).all:
            stale.unlink(missing_ok=True)
        spec.hypervisor_log.unlink(missing_ok=True)
        # QEMU would make it readable for all.
        os.close(os.open(spec.console_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        console_begin = spec.console_log.stat().st_size
        confinement = await asyncio.to_thread(find_confinement)
        group = await asyncio.to_thread(make_group, spec)
        confined = make_confined_arguments(spec, arguments, self._state_dir, confinement, group)
        with lend_memory(spec) as (descriptors, fill):
            lent = {**descriptors, **number_taps(spec, taps)}
            pid = start_forked(confine.__file__, confined, spec.hypervisor_log, descriptors=lent)
            machine = QemuMachine(spec, take_child(pid), console_begin)
            try:
                await asyncio.gather(
                    machine.connect(), asyncio.to_thread(fill), asyncio.to_thread(enter_group, spec, pid)
                )
                await machine.limit_disks()
                if spec.wakes_from is not None:
                    await machine.wake(spec.wakes_from)
            except BaseException:
                if machine.state is not MachineState.ENDED:
                    await machine.kill()
                raise
        return machine

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        return find_process(os.fsencode(name_sockets(spec.socket_folder).qmp))

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> QemuMachine | None:
        process = HostProcess.open(identity)
        if process is None:
            return None
        machine = QemuMachine(spec, process)
        try:
            await machine.connect(ADOPT_TIMEOUT_SECONDS)
        except VolantError as error:
            # It runs but does not answer yet: still ours to watch and to kill, never to end for that.
            logger.warning("adopted %s without QMP: %s", spec.name, error.what)
            machine.keep_watch()
        return machine
