# SPDX-License-Identifier: Apache-2.0
"""volar doctor: what this host can and cannot do, each finding with how to fix it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from volant.contract.agents import find_agent
from volant.contract.finding import Finding, parse_findings
from volant.errors import ToolFailed, VolantError
from volant.process import find_tool, run_tool
from volant.volantd.boot.kernel import Kernel, host_architecture, require_kernel
from volant.volantd.examination import Probe
from volant.volantd.hypervisors import groups, scopes
from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor
from volant.volantd.hypervisors.confinement import find_confinement
from volant.volantd.hypervisors.qemu import PROGRAMS, Qemu
from volant.volantd.lost_and_found import LostAndFound
from volant.volantd.network.bridge import BRIDGE, is_bridge_installed
from volant.volantd.network.host_firewall import list_obstacles
from volant.volantd.network.shared.network import find_obstacle
from volant.volantd.network.user_mode import find_outward_obstacle
from volant.volantd.settings import Settings

LOW_DISK_BYTES = 2 << 30
FLEDGE_SECONDS = 120.0
_kernel_lock = threading.Lock()


def list_probes(settings: Settings) -> dict[str, Probe]:
    """What is found out, by its subject and in the order in which it is told."""
    return {
        "programs": find_programs,
        "agent": find_agent_binary,
        "kernel": partial(find_kernel, settings),
        "accelerator": partial(find_accelerator, settings),
        "shared network": partial(find_shared_network, settings),
        "cloud-hypervisor": partial(find_cloud_hypervisor, settings),
        "confinement": find_confinement_here,
        "limits": find_limits,
        "bridged network": partial(find_bridged_network, settings),
        "state folder": partial(find_disk_space, settings),
        "lost+found": partial(find_lost, settings),
        "fledge": find_builder_findings,
    }


def find_programs() -> list[Finding]:
    program, package = PROGRAMS[host_architecture()]
    return [
        find_program(program, package, "missing"),
        find_program("qemu-img", "qemu-utils", "missing"),
        find_program("mke2fs", "e2fsprogs", "limited"),
        find_program("ssh", "openssh-client", "limited"),
    ]


def find_agent_binary() -> list[Finding]:
    try:
        return [Finding("agent", "ok", str(find_agent(host_architecture())))]
    except VolantError as error:
        return [Finding("agent", "missing", error.what, error.resolution)]


def find_kernel(settings: Settings) -> list[Finding]:
    try:
        kernel = find_usual_kernel(settings)
    except VolantError as error:
        return [Finding("kernel", "missing", error.what, error.resolution or "volar setup kernel")]
    return [Finding("kernel", "ok", f"{kernel.version} ({kernel.image})")]


def find_usual_kernel(settings: Settings) -> Kernel:
    """Whoever asks first makes of it what boots; the others find that."""
    with _kernel_lock:
        return require_kernel(host_architecture(), settings.kernels_dir, settings.kernel)


def can_try(settings: Settings) -> bool:
    """Whether there is what a guest needs: where there is not, that is the finding."""
    try:
        find_usual_kernel(settings)
    except VolantError:
        return False
    return find_tool(PROGRAMS[host_architecture()][0]) is not None


def find_accelerator(settings: Settings) -> list[Finding]:
    """And what depends on QEMU's version, where it runs guests in the way that is asked for."""
    if not can_try(settings):
        return []
    qemu = Qemu(settings.cache_dir, wanted_accelerator=settings.accelerator)
    kernel = find_usual_kernel(settings).image
    try:
        support = asyncio.run(qemu.find_support(host_architecture(), kernel=kernel))
    except VolantError as error:
        return [Finding("accelerator", "missing", error.what, error.resolution)]
    state: Literal["ok", "limited"] = "ok" if support.accelerator == "kvm" else "limited"
    fact = f"{support.accelerator}: {support.reason}"
    return [
        Finding("accelerator", state, fact, support.cure),
        find_user_network(settings, support.version),
    ]


def find_cloud_hypervisor(settings: Settings) -> list[Finding]:
    """Only where it is installed: nobody needs it."""
    hypervisor = CloudHypervisor(state_dir=settings.state_dir, wanted_accelerator=settings.accelerator)
    if not hypervisor.is_installed(host_architecture()):
        return []
    try:
        kernel = find_usual_kernel(settings)
    except VolantError:
        return []  # that is a finding already
    try:
        support = asyncio.run(hypervisor.find_support(host_architecture(), kernel=kernel.image))
    except VolantError as error:
        return [Finding("cloud-hypervisor", "limited", error.what, error.resolution)]
    return [Finding("cloud-hypervisor", "ok", f"{support.version}: {support.reason}")]


def find_user_network(settings: Settings, qemu_version: str) -> Finding:
    if settings.host_loopback == "open":
        fact = "guests reach the services on this host's 127.0.0.1, as VOLANT_HOST_LOOPBACK=open says"
        return Finding("user network", "limited", fact, "unset it")
    if (obstacle := find_outward_obstacle(qemu_version)) is not None:
        fact = f"guests reach nothing, only their published ports are reached: {obstacle}"
        return Finding("user network", "limited", fact, "apt-get install passt, or VOLANT_HOST_LOOPBACK=open")
    return Finding("user network", "ok", "passt; guests do not reach this host's 127.0.0.1")


def find_shared_network(settings: Settings) -> list[Finding]:
    return [examine_shared_network(settings)] if can_try(settings) else []


def examine_shared_network(settings: Settings) -> Finding:
    """Whether VMs in user mode can see each other."""
    subject = "shared network"
    if settings.shared_network == "off" or settings.host_loopback == "open":
        name = "SHARED_NETWORK=off" if settings.shared_network == "off" else "HOST_LOOPBACK=open"
        return Finding(subject, "limited", f"VMs do not see each other, as VOLANT_{name} says", "unset it")
    if (obstacle := find_obstacle()) is not None:
        return Finding(subject, "limited", f"VMs do not see each other: {obstacle.fact}", obstacle.mend)
    try:
        run_tool(["unshare", "--user", "--map-root-user", "--net", "true"], timeout_seconds=30)
    except VolantError:
        fact = "VMs do not see each other: this host lets this user make no namespaces"
        mend = "sudo sysctl user.max_user_namespaces=15000, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0"
        return Finding(subject, "limited", fact, mend)
    return Finding(subject, "ok", "VMs that share a network by name see each other, without root")


def find_confinement_here() -> list[Finding]:
    confinement = find_confinement()
    return [Finding("confinement", "ok" if confinement.landlock else "limited", confinement.describe())]


def find_limits() -> list[Finding]:
    if (obstacle := groups.find_obstacle()) is not None:
        fact = f"VMs take what they can of CPU, memory and processes: {obstacle}"
        return [Finding("limits", "limited", fact)]
    if groups.SYSTEMD.is_dir() and (obstacle := scopes.find_io_obstacle()) is not None:
        fact = f"of CPU, memory and processes for each VM; of the disk VMs take what they can: {obstacle}"
        mend = "sudo systemctl edit user@.service   ([Service] Delegate=cpu io memory pids), and log in again"
        return [Finding("limits", "ok", fact, mend)]
    return [Finding("limits", "ok", "a control group with limits for each VM")]


def find_bridged_network(settings: Settings) -> list[Finding]:
    """Only where root has made it."""
    return examine_bridge() if os.geteuid() == 0 and settings.bridge_mark.exists() else []


def examine_bridge() -> list[Finding]:
    subject = "bridged network"
    if not is_bridge_installed():
        return [Finding(subject, "limited", f"{BRIDGE} is gone", "volar setup network")]
    try:
        obstacles = list_obstacles(BRIDGE)
    except VolantError as error:
        return [Finding(subject, "limited", error.what, error.resolution)]
    limited = [Finding(subject, "limited", obstacle.fact, obstacle.mend) for obstacle in obstacles]
    return limited or [Finding(subject, "ok", f"{BRIDGE}, and no packet filter of this host is in its way")]


def find_program(name: str, package: str, otherwise: Literal["limited", "missing"]) -> Finding:
    found = find_tool(name)
    if found is None:
        return Finding(name, otherwise, "not found", f"apt-get install {package}")
    return Finding(name, "ok", found)


def find_disk_space(settings: Settings) -> list[Finding]:
    folder = settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return [Finding("state folder", "missing", f"{folder} cannot be written", "set VOLANT_HOME")]
    fact = f"{settings.state_dir}, {free >> 30} GiB free"
    if free < LOW_DISK_BYTES:
        return [Finding("state folder", "limited", fact, "free some space")]
    return [Finding("state folder", "ok", fact)]


def find_lost(settings: Settings) -> list[Finding]:
    lost = LostAndFound(settings.state_dir)
    count = len(lost.list_all())
    fact = f"{count} VMs or plugins that the database does not know are in {lost.folder}"
    return [Finding("lost+found", "limited", fact, "volantd import-vms, or remove them")] if count else []


def find_builder_findings() -> list[Finding]:
    """What `fledge doctor` says, where fledge is installed too. VMs run without it, so nothing of it is `missing`."""
    beside = Path(sys.argv[0]).resolve().parent / "fledge"
    program = str(beside) if beside.is_file() else find_tool("fledge")
    if program is None:
        return []
    command = [program, "doctor", "--output", "json"]
    home = {name: os.environ[name] for name in ("VOLANT_HOME",) if name in os.environ}
    try:
        answer = run_tool(command, env=home, accepted_exit_codes=(0, 1), timeout_seconds=FLEDGE_SECONDS)
        found = parse_findings(answer.stdout)
    except ToolFailed as error:
        return [Finding("fledge", "limited", error.what, "fledge doctor")]
    except ValueError as error:
        return [Finding("fledge", "limited", f"its findings cannot be read: {error}", "fledge doctor")]
    return [
        replace(
            finding,
            subject=f"fledge: {finding.subject}",
            state="limited" if finding.state == "missing" else finding.state,
        )
        for finding in found
        if finding.subject != "agent"
    ]
