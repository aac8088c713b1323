# SPDX-License-Identifier: Apache-2.0
"""What a VM may take of this host: a control group of its own for its hypervisor and for what serves it.

Version 2 only (Documentation/admin-guide/cgroup-v2.rst), and only where nobody else arranges the groups: a daemon of
root without systemd. Elsewhere VMs have no limits, which the doctor says. A group is made at each start of a VM, so its
counters are those of that start; empty ones are removed on the way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

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
    if os.geteuid() != 0:
        return "only root's VMs get control groups"
    if SYSTEMD.is_dir():
        return "systemd arranges this host's control groups, and is not asked for VMs' yet"
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
    """The group above those of VMs, made ready; None where there is an obstacle. Blocking."""
    if (obstacle := find_obstacle()) is not None:
        logger.info("VMs have no limits of CPU, memory and processes: %s", obstacle)
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
    """An empty group with this VM's limits, or None on a host without."""
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


def join_group(vm_id: str, processes: Iterable[int]) -> None:
    """Put processes that serve a VM into its group, where it has one."""
    parent = find_parent()
    if parent is None:
        return
    for pid in processes:
        with suppress(OSError):  # it has ended, or the VM has none
            (parent / vm_id / "cgroup.procs").write_text(str(pid))


def was_killed_for_memory(vm_id: str) -> bool:
    """Whether the kernel killed processes of a VM at its memory limit, in the group's time."""
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
