# SPDX-License-Identifier: Apache-2.0
"""What a VM may take of this host: a control group of its own for its hypervisor and for what serves it.

Version 2 only (Documentation/admin-guide/cgroup-v2.rst). Where systemd arranges the groups it is asked for one
(`scopes`), for ordinary users too; without it root's daemon makes them. Elsewhere VMs have no limits, which the doctor
says. A group is made at each start of a VM, so its counters are those of that start; empty ones are removed on the way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from volant.volantd.hypervisors import scopes
from volant.volantd.hypervisors.base import VmSpec

logger = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
# The folder that sd_booted(3) looks for.
SYSTEMD = Path("/run/systemd/system")
PARENT = "volant"
CONTROLLERS = ("cpu", "memory", "pids", "io")
# QEMU's own memory (an emulated guest's translated code, device buffers), passt's and the filter's, with room: it is a
# bound for what went wrong, not a share.
OVERHEAD_MIB = 512
# Threads of QEMU's block layer (64 a queue), its vCPUs, and the helpers.
MOST_PROCESSES = 512
PERIOD_MICROSECONDS = 100_000


def find_obstacle() -> str | None:
    """Why VMs have no limits on this host, or None."""
    if SYSTEMD.is_dir():
        return scopes.find_obstacle()
    if os.geteuid() != 0:
        return "without systemd only root's VMs get control groups"
    try:
        available = (ROOT / "cgroup.controllers").read_text().split()
        own = OWN_GROUP.read_text().strip().rpartition("0::")[2]
    except OSError:
        return "this host has no control groups of version 2"
    if missing := [name for name in CONTROLLERS if name not in available]:
        return f"this host's control groups have no {', '.join(missing)}"
    return None if own == "/" or own.startswith(f"/{PARENT}") else f"volantd runs in the control group {own}"


@lru_cache(maxsize=1)
def find_parent() -> Path | None:
    """The group above those that we make, made ready; None where systemd makes them or nobody can. Blocking."""
    if (obstacle := find_obstacle()) is not None:
        logger.info("VMs have no limits of CPU, memory and processes: %s", obstacle)
        return None
    if SYSTEMD.is_dir():
        return None
    parent = ROOT / PARENT
    wanted = " ".join(f"+{name}" for name in CONTROLLERS)
    try:
        (ROOT / "cgroup.subtree_control").write_text(wanted)
        parent.mkdir(exist_ok=True)
        (parent / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        logger.warning("VMs have no limits of CPU, memory and processes: %s", error)
        return None
    return parent


def make_limits(spec: VmSpec) -> dict[str, str]:
    """The group's files and their values: a pure function of the VM."""
    quota = (spec.vcpu + 1) * PERIOD_MICROSECONDS
    return {
        "cpu.max": f"{quota} {PERIOD_MICROSECONDS}",
        "cpu.weight": str(min(100 * spec.vcpu, 10_000)),
        "memory.max": str((spec.memory_mb + OVERHEAD_MIB) << 20),
        # Half of a VM is of no use.
        "memory.oom.group": "1",
        "pids.max": str(MOST_PROCESSES + spec.vcpu),
    }


def make_group(spec: VmSpec) -> Path | None:
    """An empty group with this VM's limits, for its hypervisor to start in; None where we make none."""
    parent = find_parent()
    if parent is None:
        return None
    remove_idle(parent)
    group = parent / spec.id
    try:
        group.mkdir(exist_ok=True)
        for name, value in make_limits(spec).items():
            (group / name).write_text(value)
    except OSError as error:
        logger.warning("VM %s has no limits of CPU, memory and processes: %s", spec.name, error)
        return None
    return group


def change_limits(spec: VmSpec, pid: int) -> None:
    """Of a VM that runs, to what this spec says; a VM without a group has none."""
    if SYSTEMD.is_dir():
        scopes.change_scope(spec, pid, make_scope_limits(spec))
        return
    parent = find_parent()
    if parent is None:
        return
    for name, value in make_limits(spec).items():
        with suppress(OSError):  # it has no group
            (parent / spec.id / name).write_text(value)


def enter_group(spec: VmSpec, pid: int) -> None:
    """Where systemd makes groups, put a hypervisor that was just started into one with this VM's limits."""
    if SYSTEMD.is_dir():
        scopes.enter_scope(spec, pid, make_scope_limits(spec))


def make_scope_limits(spec: VmSpec) -> list[str]:
    """The same limits in systemd's words (systemd.resource-control(5)), as busctl takes them."""
    values = {
        "CPUQuotaPerSecUSec": (spec.vcpu + 1) * 1_000_000,
        "CPUWeight": min(100 * spec.vcpu, 10_000),
        "MemoryMax": (spec.memory_mb + OVERHEAD_MIB) << 20,
        "TasksMax": MOST_PROCESSES + spec.vcpu,
        # The default; but where it is said, the group takes part in sharing the disk.
        "IOWeight": 100,
    }
    return [word for name, value in values.items() for word in (name, "t", str(value))]


def join_group(vm_id: str, owner: int, processes: Sequence[int]) -> None:
    """Put processes that serve a VM into its group, where it has one. `owner` is its hypervisor's number."""
    if SYSTEMD.is_dir():
        scopes.join_scope(vm_id, owner, processes)
        return
    parent = find_parent()
    if parent is None:
        return
    for pid in processes:
        with suppress(OSError):  # it has ended, or the VM has none
            (parent / vm_id / "cgroup.procs").write_text(str(pid))


def was_killed_for_memory(vm_id: str) -> bool:
    """Whether the kernel killed processes of a VM at its memory limit, in the group's time. Of a scope nothing is left
    to ask by then: there the kernel's log tells (`crash`)."""
    parent = find_parent()
    if parent is None:
        return False
    try:
        events = (parent / vm_id / "memory.events").read_text().split()
    except OSError:
        return False
    return int(dict(zip(events[::2], events[1::2], strict=True)).get("oom_kill", 0)) > 0


def remove_idle(parent: Path) -> None:
    """The kernel refuses to remove a group in which anything runs."""
    for group in parent.iterdir():
        if group.is_dir():
            with suppress(OSError):
                group.rmdir()
