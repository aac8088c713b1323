# SPDX-License-Identifier: Apache-2.0
"""Cloud Hypervisor (https://www.cloudhypervisor.org) as a hypervisor: looking at the host, starting, adopting.

KVM only, tap networks only, and a vsock device as the agent's stream.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from volant.contract.agents import Architecture
from volant.errors import ToolFailed, ToolMissing
from volant.forked_programs import start_forked
from volant.process import find_tool, run_tool
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.base import (
    Capabilities,
    HostSupport,
    HypervisorKind,
    MachineState,
    ProcessIdentity,
    SharedNic,
    TapNic,
    VmSpec,
)
from volant.volantd.hypervisors.cloud_hypervisor.configuration import (
    EVENTS_DESCRIPTOR,
    find_files,
    list_taps,
    make_arguments,
    make_net_config,
    make_vm_config,
)
from volant.volantd.hypervisors.cloud_hypervisor.console import opened_terminal
from volant.volantd.hypervisors.cloud_hypervisor.machine import (
    CloudHypervisorMachine,
    remove_files,
    take_over,
)
from volant.volantd.hypervisors.cloud_hypervisor.memory import laid_out, make_restore_request
from volant.volantd.hypervisors.cloud_hypervisor.probe import make_probe_arguments
from volant.volantd.hypervisors.cloud_hypervisor.traits import find_traits
from volant.volantd.hypervisors.confinement import find_confinement, make_confined_arguments
from volant.volantd.hypervisors.groups import enter_group, make_group
from volant.volantd.hypervisors.host_process import HostProcess, find_process, take_child
from volant.volantd.hypervisors.kvm_probe import boot_to_init, find_kvm_obstacle
from volant.volantd.hypervisors.nested import check_nested

PROGRAM = "cloud-hypervisor"
# The first that opens the files below a QCOW2 where it is told to, and only then.
OLDEST = (51, 0)
START_TIMEOUT_SECONDS = 60.0


class CloudHypervisor:
    """`state_dir`: what VMs see nothing of but their own."""

    kind: HypervisorKind = "cloud-hypervisor"
    capabilities = Capabilities(
        firmware=False,
        power_button=True,
        pause=True,
        snapshot=True,
        restore=True,
        user_network=False,
        lent_taps=True,
        templates=False,
        emulation=False,
        knows_secret_users=False,
        disk_limits=False,
        live_resize=True,
        folders=False,
        live_layers=False,
    )

    def __init__(
        self, *, state_dir: Path | None = None, wanted_accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    ) -> None:
        self._state_dir = state_dir
        self._wanted = wanted_accelerator
        self._lock = asyncio.Lock()
        self._answers: dict[tuple[str, Path, int], HostSupport] = {}

    def is_installed(self, architecture: Architecture) -> bool:
        return find_tool(PROGRAM) is not None

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        program = require_program()
        if self._wanted == "tcg":
            raise _refuse("VOLANT_ACCELERATOR asks for TCG, and it runs on KVM alone")
        if kernel is None or firmware:
            raise _refuse("it boots no disks with a system of their own")
        async with self._lock:
            key = (program, kernel, os.stat(program).st_mtime_ns)
            if key not in self._answers:
                self._answers[key] = await asyncio.to_thread(_find_out, program, architecture, kernel)
            return self._answers[key]

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        return find_traits(spec)

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> CloudHypervisorMachine:
        check_nested(spec)
        list_taps(spec)
        files = find_files(spec)
        confinement = await asyncio.to_thread(find_confinement)
        arguments = make_arguments(spec, require_program(), confinement.landlock)
        config = make_vm_config(spec, confinement.landlock)
        remove_files(files)
        files.folder.mkdir(mode=0o700, exist_ok=True)
        spec.hypervisor_log.unlink(missing_ok=True)
        group = await asyncio.to_thread(make_group, spec)
        with ExitStack() as stack:
            opened = {1: spec.console_log, EVENTS_DESCRIPTOR: files.events}
            descriptors = {number: stack.enter_context(_append(path)) for number, path in opened.items()}
            descriptors |= stack.enter_context(opened_terminal())
            console_begin = os.fstat(descriptors[1]).st_size
            confined = make_confined_arguments(
                spec,
                arguments,
                self._state_dir,
                confinement,
                group,
                opens_taps=False,
                folders=(files.folder,),
            )
            pid = start_forked(confine.__file__, confined, spec.hypervisor_log, descriptors=descriptors)
        machine = CloudHypervisorMachine(spec, take_child(pid), console_begin)
        try:
            await asyncio.gather(
                machine.wait_answering(START_TIMEOUT_SECONDS), asyncio.to_thread(enter_group, spec, pid)
            )
            with opened_taps(spec, taps) as own, laid_out(spec, confinement.landlock):
                if spec.wakes_from is not None:
                    await machine.api.put(
                        "vm.restore", make_restore_request(spec), descriptors=list(own.values())
                    )
                    await machine.look()
                else:
                    await make_and_boot(machine, config, own)
        except BaseException:
            if machine.state is not MachineState.ENDED:
                await machine.kill()
            raise
        return machine

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        return find_process(f"path={find_files(spec).api}".encode())

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> CloudHypervisorMachine | None:
        process = HostProcess.open(identity)
        if process is None:
            return None
        machine = CloudHypervisorMachine(spec, process)
        await take_over(machine)
        return machine


async def make_and_boot(
    machine: CloudHypervisorMachine, config: dict[str, Any], taps: dict[TapNic | SharedNic, int]
) -> None:
    await machine.api.put("vm.create", config)
    for index, (nic, descriptor) in enumerate(taps.items()):
        await machine.api.put("vm.add-net", make_net_config(index, nic), descriptors=[descriptor])
    await machine.api.put("vm.boot")


@contextmanager
def opened_taps(spec: VmSpec, lent: Sequence[int]) -> Iterator[dict[TapNic | SharedNic, int]]:
    """Descriptors of its NICs' tap devices, in their order: the process has no right to open them."""
    brought = iter(lent)
    with ExitStack() as stack:
        found: dict[TapNic | SharedNic, int] = {}
        for nic in list_taps(spec):
            if isinstance(nic, SharedNic):
                found[nic] = next(brought)
                continue
            found[nic] = confine.open_tap(nic.tap)
            stack.callback(os.close, found[nic])
        yield found


@contextmanager
def _append(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def require_program() -> str:
    found = find_tool(PROGRAM)
    if found is None:
        raise ToolMissing(
            "cannot run VMs on Cloud Hypervisor: it is not installed",
            resolution="put its released program on PATH as cloud-hypervisor (www.cloudhypervisor.org), or use QEMU",
        )
    return found


def _find_out(program: str, architecture: Architecture, kernel: Path) -> HostSupport:
    """Blocking: a guest is booted. ToolFailed where it does not come up; there is nothing else to fall back to."""
    text = run_tool([program, "--version"], what="ask Cloud Hypervisor for its version").stdout.strip()
    version = text.rpartition(" ")[2]
    check_version(version)
    obstacle = find_kvm_obstacle(architecture)
    if obstacle is None:
        arguments = functools.partial(make_probe_arguments, program, architecture, kernel)
        obstacle = boot_to_init(arguments, kernel)
    if obstacle is not None:
        raise ToolFailed(
            f"cannot run VMs on Cloud Hypervisor: {obstacle.reason}", resolution=obstacle.cure or "use QEMU"
        )
    return HostSupport(
        program=program,
        version=version.removeprefix("v"),
        machine="cloud-hypervisor",
        bus="pci",
        accelerator="kvm",
        reason="a guest booted with KVM",
        control="vsock",
    )


def check_version(version: str) -> None:
    """ToolFailed for one that is too old; what is no number is somebody's own build, and taken."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        raise _refuse(f"{version} is older than v{OLDEST[0]}.{OLDEST[1]}", "install a newer one, or use QEMU")


def _refuse(reason: str, resolution: str = "use QEMU: --hypervisor qemu") -> ToolFailed:
    return ToolFailed(f"cannot run VMs on Cloud Hypervisor: {reason}", resolution=resolution)
