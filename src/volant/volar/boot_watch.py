# SPDX-License-Identifier: Apache-2.0
"""Waiting for a VM while showing how far it is."""

from __future__ import annotations

import time
from typing import Any

import click

from volant.errors import GuestFailed
from volant.volar.client import Client, quoted

POLL_SECONDS = 0.05
LINES_THAT_MATTER = 15


def wait_for_workload(
    client: Client, name: str, timeout_seconds: float, *, quiet: bool = False
) -> dict[str, Any]:
    """Return the VM once its workload is healthy, or running where nothing checks it, or has ended well (batch).

    GuestFailed, with the lines that matter, when it fails, or is not there in time (the VM stays as it is then).
    """
    deadline = time.monotonic() + timeout_seconds
    told = ""
    while True:
        vm: dict[str, Any] = client.get(f"/vms/{quoted(name)}")
        if not quiet and (phase := describe_phase(vm)) != told:
            told = phase
            click.echo(f"{name}: {phase}", err=True)
        if vm["status"] == "failed":
            raise GuestFailed(
                f"{name} failed: {vm['status_reason'] or 'no reason known'}",
                details=vm["last_console_lines"][-LINES_THAT_MATTER:],
                resolution=f"volar vms logs {name} --console; volar vms get {name}",
            )
        if vm["status"] == "stopped":
            if vm["exit_code"]:
                raise GuestFailed(
                    f"{name} ended with exit code {vm['exit_code']}",
                    details=read_last_lines(client, name),
                    resolution=f"volar vms logs {name}",
                )
            return vm
        if vm["status"] == "running" and is_settled(vm):
            return vm
        if time.monotonic() > deadline or has_given_up(vm):
            reason = (
                vm["health_reason"]
                or vm["status_reason"]
                or f"still {vm['health']} after {timeout_seconds:g} s"
            )
            raise GuestFailed(
                f"{name} runs but its workload is not healthy: {reason}",
                details=read_last_lines(client, name),
                resolution=f"volar vms get {name}; volar vms logs {name}; volar vms ssh {name}",
            )
        time.sleep(POLL_SECONDS)


def is_settled(vm: dict[str, Any]) -> bool:
    """Healthy; or nothing checks the workload and its processes are up; or no agent can answer (a whole system)."""
    if vm["health"] == "healthy":
        return True
    if vm["health"] != "unknown" or vm["checks"]:
        return False
    return _processes_up(vm) if vm["agent"]["connected"] else vm["status_reason"].startswith("no agent")


def _processes_up(vm: dict[str, Any]) -> bool:
    return all(process["state"] not in ("waiting", "starting", "failed") for process in vm["processes"])


def has_given_up(vm: dict[str, Any]) -> bool:
    """The agent will not try again: a process has failed for good, or the config cannot be used."""
    if vm["health"] != "unhealthy":
        return False
    return not vm["processes"] or any(process["state"] == "failed" for process in vm["processes"])


def wait_for_state(client: Client, name: str, status: str, timeout_seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_seconds
    while (vm := client.get(f"/vms/{quoted(name)}"))["status"] != status:
        if time.monotonic() > deadline:
            raise GuestFailed(f"{name} is {vm['status']}, not {status}, after {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)
    found: dict[str, Any] = vm
    return found


def describe_phase(vm: dict[str, Any]) -> str:
    """Where the boot is, in a few words."""
    if vm["status"] != "running":
        return str(vm["status"])
    if not vm["agent"]["connected"]:
        return "kernel boots"
    waiting = [
        process["name"]
        for process in vm["processes"]
        if process["state"] in ("waiting", "starting", "backoff")
    ]
    if waiting:
        return f"starting {', '.join(waiting)}"
    return f"running, {vm['health']}"


def read_last_lines(client: Client, name: str) -> list[str]:
    import json

    with client.open("GET", f"/vms/{quoted(name)}/logs", query={"tail": LINES_THAT_MATTER}) as reply:
        return [f"[{entry['process']}] {entry['line']}" for entry in map(json.loads, reply)]
