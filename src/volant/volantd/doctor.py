# SPDX-License-Identifier: Apache-2.0
"""volar doctor: what this host can and cannot do, each finding with how to mend it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import click

from volant.contract.agents import find_agent
from volant.errors import VolantError
from volant.process import find_tool
from volant.volantd.boot.kernel import host_architecture, require_kernel
from volant.volantd.hypervisors.qemu import PROGRAMS, Qemu
from volant.volantd.network.user_mode import find_outward_obstacle
from volant.volantd.settings import Settings

LOW_DISK_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """`missing` keeps VMs from running; `limited` only makes them slower or less able."""

    subject: str
    state: Literal["ok", "limited", "missing"]
    fact: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    architecture = host_architecture()
    program, package = PROGRAMS[architecture]
    findings = [
        find_program(program, package, "missing"),
        find_program("qemu-img", "qemu-utils", "missing"),
        find_program("ssh", "openssh-client", "limited"),
    ]
    try:
        findings.append(Finding("agent", "ok", str(find_agent(architecture))))
    except VolantError as error:
        findings.append(Finding("agent", "missing", error.what, error.resolution))
    try:
        kernel = require_kernel(architecture, settings.cache_dir / "kernels", settings.kernel)
        findings.append(Finding("kernel", "ok", f"{kernel.version} ({kernel.image})"))
        if findings[0].state == "ok":
            support = asyncio.run(Qemu(settings.cache_dir).find_support(architecture, kernel=kernel.image))
            state: Literal["ok", "limited"] = "ok" if support.accelerator == "kvm" else "limited"
            mend = (
                "" if state == "ok" else "enable virtualization in the firmware and give access to /dev/kvm"
            )
            findings.append(Finding("accelerator", state, f"{support.accelerator}: {support.reason}", mend))
            findings.append(find_user_network(settings, support.version))
    except VolantError as error:
        findings.append(Finding("kernel", "missing", error.what, error.resolution or "volar setup kernel"))
    findings.append(find_disk_space(settings))
    return findings


def find_user_network(settings: Settings, qemu_version: str) -> Finding:
    if settings.host_loopback == "open":
        fact = "guests reach the services on this host's 127.0.0.1, as VOLANT_HOST_LOOPBACK=open says"
        return Finding("user network", "limited", fact, "unset it")
    if (obstacle := find_outward_obstacle(qemu_version)) is not None:
        fact = f"guests reach nothing, only their published ports are reached: {obstacle}"
        return Finding("user network", "limited", fact, "apt-get install passt, or VOLANT_HOST_LOOPBACK=open")
    return Finding("user network", "ok", "passt; guests do not reach this host's 127.0.0.1")


def find_program(name: str, package: str, otherwise: Literal["limited", "missing"]) -> Finding:
    found = find_tool(name)
    if found is None:
        return Finding(name, otherwise, "not found", f"apt-get install {package}")
    return Finding(name, "ok", found)


def find_disk_space(settings: Settings) -> Finding:
    folder = settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        return Finding("state folder", "missing", f"{folder} cannot be written", "set VOLANT_HOME")
    fact = f"{settings.state_dir}, {free >> 30} GiB free"
    if free < LOW_DISK_BYTES:
        return Finding("state folder", "limited", fact, "free some space")
    return Finding("state folder", "ok", fact)


def show(findings: Sequence[Finding], output_format: str) -> None:
    if output_format == "json":
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        click.echo(f"{finding.state:<8} {finding.subject:<20} {finding.fact}")
        if finding.mend:
            click.echo(f"{'':<8} {'':<20} try: {finding.mend}")
