# SPDX-License-Identifier: Apache-2.0
"""A VM in the foreground: its lines here, its end ours, and Ctrl-C stops it in order."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import click

from volant.client.log_lines import follow_lines, wait_for_return
from volant.errors import GuestFailed, NotFound, Unreachable, VolantError, WrongState
from volant.volar.boot_watch import LINES_THAT_MATTER, Observer, is_settled
from volant.volar.client import Client, quoted
from volant.volar.printable import make_printable_line

if TYPE_CHECKING:
    from volant.contract.api_types import LogLine, Vm

BOOT_POLL_SECONDS = 0.05
POLL_SECONDS = 0.25
STOP_SECONDS = 30.0
DRAIN_SECONDS = 5.0
STOPPED_EXIT_CODE = 128 + signal.SIGTERM
KILLED_EXIT_CODE = 128 + signal.SIGKILL
AGENT = "kestrel"
# The name of the one process of an image without a kestrel config.
WORKLOAD = "workload"


class End(NamedTuple):
    """How a VM in the foreground ended: with its workload's exit code, or with why there is none."""

    exit_code: int
    problem: GuestFailed | None = None


def follow(client: Client, name: str, *, for_engine: bool = False) -> End:
    """Show what the VM's processes write until it ends. KeyboardInterrupt passes through.

    `for_engine`: standard output has all that they write, and an interrupt stops the VM.
    """
    printer = threading.Thread(target=_print_lines, args=(client, name, for_engine), daemon=True)
    printer.start()
    follower = _Follower(client, name)
    while True:
        try:
            end = follower.look()
        except KeyboardInterrupt:
            if not for_engine:
                raise
            _tell(f"{name}: stopping it")
            follower.was_stopped = True
            stop(client, name)
            continue
        if end is not None:
            printer.join(DRAIN_SECONDS)
            return end


def wait_for_end(client: Client, name: str) -> End:
    """How it ended, once it has."""
    while (end := find_end(_look(client, name))) is None:
        time.sleep(POLL_SECONDS)
    return end


class _Follower:
    """One look after the other at a VM, with what is new to say of it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._observer = Observer()
        self._is_up = False
        self.was_stopped = False
        """By whoever follows it."""

    def look(self) -> End | None:
        """How it ended, or after a while None."""
        vm = _look(self._client, self._name)
        for line in self._observer.observe(vm):
            _tell(f"{self._name}: {line}")
        if not self._is_up and vm["status"] == "running" and is_settled(vm):
            self._is_up = True
            reached = f"reached at {vm['url']}; " if vm["url"] else ""
            _tell(f"{self._name}: {reached}Ctrl-C stops it")
        if (end := find_end(vm, was_stopped=self.was_stopped)) is None:
            time.sleep(POLL_SECONDS if self._is_up else BOOT_POLL_SECONDS)
        return end


def find_end(vm: Vm, *, was_stopped: bool = False) -> End | None:
    """None while it goes on. One that was stopped ends as its workload did by itself; where that had to be killed, or
    had not begun, as a program that SIGTERM ended."""
    if vm["status"] == "failed":
        reason = vm["status_reason"] or "no reason known"
        details = vm["last_console_lines"][-LINES_THAT_MATTER:]
        return End(GuestFailed.exit_code, GuestFailed(f"{vm['name']} failed: {reason}", details=details))
    if vm["status"] != "stopped":
        return None
    if was_stopped and vm["exit_code"] in (None, KILLED_EXIT_CODE):
        return End(STOPPED_EXIT_CODE)
    return End(vm["exit_code"] or 0)


def stop(client: Client, name: str) -> None:
    """Stop it in order; a second Ctrl-C meanwhile switches it off."""
    try:
        _ask_to_stop(client, name, force=False)
    except KeyboardInterrupt:
        _tell(f"{name}: switching it off")
        _ask_to_stop(client, name, force=True)


def _ask_to_stop(client: Client, name: str, *, force: bool) -> None:
    body = {"timeout_seconds": STOP_SECONDS, "force": force}
    with suppress(WrongState, NotFound):
        client.post(f"/vms/{quoted(name)}/stop", body, timeout_seconds=STOP_SECONDS + 60)


@contextmanager
def interrupted_by_hangup() -> Iterator[None]:
    """A terminal that goes away means what Ctrl-C means, unless somebody has asked for the contrary (nohup)."""
    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _look(client: Client, name: str) -> Vm:
    """The VM, also where the daemon has to come back first."""
    try:
        return client.get_vm(name)
    except Unreachable:
        wait_for_return(client, name)
        return client.get_vm(name)


def _print_lines(client: Client, name: str, on_stdout: bool) -> None:
    on_terminal = sys.stdout.isatty()
    try:
        for line in follow_lines(client, name):
            if line["process"] != AGENT:
                text = format_line(line)
                to_stderr = line["stream"] == "stderr" and not on_stdout
                click.echo(make_printable_line(text) if on_terminal else text, err=to_stderr)
    except VolantError as error:
        _tell(f"{name}: its lines cannot be followed: {error.what}")


def format_line(line: LogLine) -> str:
    """An image's one command writes as it does under docker; of several processes each says which it is."""
    return line["line"] if line["process"] == WORKLOAD else f"[{line['process']}] {line['line']}"


def _tell(text: str) -> None:
    click.echo(make_printable_line(text), err=True)
