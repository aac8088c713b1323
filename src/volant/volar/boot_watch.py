# SPDX-License-Identifier: Apache-2.0
"""Waiting for a VM: how far it is, what has failed as soon as it fails, and how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from volant.client.log_lines import read_lines
from volant.errors import GuestFailed
from volant.volar.client import Client
from volant.volar.printable import make_printable_line

if TYPE_CHECKING:
    from volant.contract.api_types import Check, ProcessState, Vm

POLL_SECONDS = 0.05
LINES_THAT_MATTER = 15
FAILURES_THAT_MATTER = 10


class Observer:
    """Turns each look at a VM into the lines that are news: its phase, and every failure once."""

    def __init__(self) -> None:
        self._health = ""
        self._told: set[tuple[str, str]] = set()

    def observe(self, vm: Vm) -> list[str]:
        news = []
        phase = describe_phase(vm)
        # A process that is started again and again is told by its failure; health may turn over and is told each time.
        if self._is_new("phase", phase) or (phase != self._health and phase.startswith("running, ")):
            news.append(phase)
        if phase.startswith("running, "):
            self._health = phase
        if vm["status"] in ("starting", "running"):
            news += [text for subject, text in find_failures(vm) if self._is_new(subject, text)]
        return news

    def _is_new(self, subject: str, text: str) -> bool:
        is_new = (subject, text) not in self._told
        self._told.add((subject, text))
        return is_new


def find_failures(vm: Vm) -> list[tuple[str, str]]:
    """What has gone wrong so far, as (subject, line): processes that ended badly, checks that will not succeed."""
    found = [
        (process["name"], f"{process['name']} {describe_end(process)}; it is started again")
        for process in vm["processes"]
        if process["state"] == "backoff"
    ]
    found += [
        (check["name"], f"check {check['name']} fails: {check['reason']}")
        for check in vm["checks"]
        if check["reason"] and (not is_usual(check) or check["failures"] >= FAILURES_THAT_MATTER)
    ]
    return found


def is_usual(check: Check) -> bool:
    """What any workload's check says while it starts: news only when it goes on."""
    return check["kind"] == "exec" or check["reason"].endswith("(connection refused)")


def describe_end(process: ProcessState) -> str:
    if process["signal"]:
        return f"was ended by {process['signal']}"
    if process["exit_code"] is not None:
        return f"ended with exit code {process['exit_code']}"
    return process["reason"] or "ended"


def wait_for_workload(client: Client, name: str, timeout_seconds: float, *, quiet: bool = False) -> Vm:
    """Return the VM once its workload is healthy, or running where nothing checks it, or has ended well (batch).

    GuestFailed, with the lines that matter, when it fails, or is not there in time (the VM stays as it is then).
    """
    deadline = time.monotonic() + timeout_seconds
    observer = Observer()
    while True:
        vm = client.get_vm(name)
        for line in () if quiet else observer.observe(vm):
            click.echo(make_printable_line(f"{name}: {line}"), err=True)
        if is_up(client, vm):
            return vm
        if time.monotonic() > deadline or has_given_up(vm):
            reason = (
                vm["health_reason"]
                or vm["status_reason"]
                or f"still {vm['health']} after {timeout_seconds:g} s"
            )
            raise GuestFailed(
                f"{name} runs but its workload is not healthy: {reason}",
                details=read_last_lines(client, vm),
                resolution=f"volar vms get {name}; volar vms logs {name}; volar vms ssh {name}",
            )
        time.sleep(POLL_SECONDS)


def is_up(client: Client, vm: Vm) -> bool:
    """Whether the wait is over and well: the workload is up, or has ended with 0. GuestFailed where it ended badly."""
    name = vm["name"]
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
                details=read_last_lines(client, vm),
                resolution=f"volar vms logs {name}",
            )
        return True
    return vm["status"] == "running" and is_settled(vm)


def is_settled(vm: Vm) -> bool:
    """Healthy; or nothing checks the workload and its processes are up; or no agent can answer (a whole system)."""
    if vm["exit_code"] is not None:
        return False  # it has a result and is about to end with it
    if vm["health"] == "healthy":
        return True
    if vm["health"] != "unknown" or vm["checks"]:
        return False
    return _processes_up(vm) if vm["agent"]["connected"] else vm["status_reason"].startswith("no agent")


def _processes_up(vm: Vm) -> bool:
    return all(
        process["state"] not in ("waiting", "starting", "backoff", "failed") for process in vm["processes"]
    )


def has_given_up(vm: Vm) -> bool:
    """The agent will not try again: a process has failed for good, or the config cannot be used."""
    if vm["health"] != "unhealthy":
        return False
    return not vm["processes"] or any(process["state"] == "failed" for process in vm["processes"])


def wait_for_state(client: Client, name: str, status: str, timeout_seconds: float) -> Vm:
    deadline = time.monotonic() + timeout_seconds
    while (vm := client.get_vm(name))["status"] != status:
        if time.monotonic() > deadline:
            raise GuestFailed(f"{name} is {vm['status']}, not {status}, after {timeout_seconds:g} s")
        time.sleep(POLL_SECONDS)
    return vm


def describe_phase(vm: Vm) -> str:
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
    return "running" if vm["health"] == "starting" else f"running, {vm['health']}"


def read_last_lines(client: Client, vm: Vm) -> list[str]:
    """The end of what this boot's processes wrote."""
    lines = read_lines(client, vm["name"], since=vm["started_at"], tail=LINES_THAT_MATTER)
    return [f"[{line['process']}] {line['line']}" for line in lines]
