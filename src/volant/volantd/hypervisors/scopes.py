# SPDX-License-Identifier: Apache-2.0
"""Control groups of VMs on a host that systemd arranges: each VM is a transient scope, which systemd is asked for.

The system's manager is asked for root's VMs, a user's own manager for that user's. A scope and no group inside of the
daemon's own service: systemd could not start the service again beside VMs that run on in it (a group with controllers
for its children takes no process of its own). It is asked over D-Bus by `busctl` (org.freedesktop.systemd1(5)).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from volant.errors import VolantError
from volant.process import find_tool, run_tool
from volant.volantd.hypervisors.base import VmSpec

logger = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
SLICE = "volant.slice"
# VMs end in order while it stops, so they must be there until it has (units.py).
SHUTDOWN_UNIT = "volant-shutdown.service"
NEEDED = ("cpu", "memory", "pids")
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
ANSWER_SECONDS = 10.0


def find_obstacle() -> str | None:
    """Why systemd makes no groups with limits for VMs of this user, or None."""
    controllers = find_controllers()
    if isinstance(controllers, str):
        return controllers
    if missing := [name for name in NEEDED if name not in controllers]:
        return f"{_name_manager()} has no {', '.join(missing)} to give: see Delegate= in systemd.resource-control(5)"
    return None


def find_io_obstacle() -> str | None:
    """Why VMs take what they can of the disk: users' managers are given no such controller by default."""
    controllers = find_controllers()
    return None if "io" in controllers else f"{_name_manager()} has no io to give"


@lru_cache(maxsize=1)
def find_controllers() -> tuple[str, ...] | str:
    """What this user's manager may share out, or why there is nothing. Blocking."""
    if find_tool("busctl") is None:
        return "busctl is not installed"
    try:
        answer = run_tool(
            [*_make_busctl("get-property"), *MANAGER, "ControlGroup"], timeout_seconds=ANSWER_SECONDS
        ).stdout
    except VolantError:
        who = "loginctl enable-linger starts one" if os.geteuid() != 0 else "systemd does not answer"
        return f"{_name_manager()} cannot be asked: {who}"
    group = answer.strip().partition('"')[2].rstrip('"').strip("/")
    try:
        return tuple((ROOT / group / "cgroup.controllers").read_text().split())
    except OSError:
        return "this host has no control groups of version 2"


def enter_scope(spec: VmSpec, pid: int, limits: Sequence[str]) -> None:
    """Put a hypervisor that was just started into a scope of its own. `limits`: properties as busctl takes them."""
    if find_obstacle() is not None:
        return
    properties = [
        ["Description", "s", f"Volant VM {spec.name}"],
        ["Slice", "s", SLICE],
        ["Before", "as", "1", SHUTDOWN_UNIT],
        ["CollectMode", "s", "inactive-or-failed"],
        # Without it no process joins later.
        ["Delegate", "b", "true"],
        ["PIDs", "au", "1", str(pid)],
    ]
    words = [word for one in properties for word in one]
    count = str(len(properties) + len(limits) // 3)
    request = ["StartTransientUnit", "ssa(sv)a(sa(sv))", name_scope(spec.id, pid), "fail", count]
    _ask([*request, *words, *limits, "0"], f"VM {spec.name} has no limits")


def change_scope(spec: VmSpec, pid: int, limits: Sequence[str]) -> None:
    """Give the scope of a VM that runs other limits, for as long as it is there."""
    if find_obstacle() is None:
        request = ["SetUnitProperties", "sba(sv)", name_scope(spec.id, pid), "true", str(len(limits) // 3)]
        _ask([*request, *limits], f"VM {spec.name} keeps the limits that it had")


def join_scope(vm_id: str, owner: int, processes: Sequence[int]) -> None:
    """Put processes that serve a VM, whose hypervisor is `owner`, into its scope."""
    if processes and find_obstacle() is None:
        pids = [str(len(processes)), *map(str, processes)]
        request = ["AttachProcessesToUnit", "ssau", name_scope(vm_id, owner), "", *pids]
        _ask(request, f"the network of VM {vm_id} counts as the daemon's own")


def name_scope(vm_id: str, pid: int) -> str:
    """A name of this start alone: systemd may still be busy with the scope of the last."""
    return f"volant-{vm_id}-{pid}.scope"


def _ask(request: Sequence[str], otherwise: str) -> None:
    try:
        run_tool([*_make_busctl("call"), *MANAGER, *request], timeout_seconds=ANSWER_SECONDS)
    except VolantError as error:
        logger.warning("%s: %s", otherwise, error)


def _make_busctl(verb: str) -> list[str]:
    return ["busctl", *([] if os.geteuid() == 0 else ["--user"]), "--quiet", verb]


def _name_manager() -> str:
    return "systemd" if os.geteuid() == 0 else "systemd --user"
