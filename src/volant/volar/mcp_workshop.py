# SPDX-License-Identifier: Apache-2.0
"""The VMs of one agent's session: made within limits, nobody else's touched, gone with the session or their time."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volant.client.client import Client
from volant.errors import Conflict, InvalidInput, NotFound, NotPermitted
from volant.process import run_tool

if TYPE_CHECKING:
    from volant.contract.api_types import Vm

LABEL = "mcp-session"
SWEEP_SECONDS = 5.0
# What tells volar which daemon it works for.
DAEMON_VARIABLES = ("VOLANT_HOME", "VOLANT_API_BASE", "VOLANT_TOKEN", "VOLANT_CONTEXT", "VOLANT_NO_AUTOSTART")


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` is how long a VM lives, `command_seconds` how long one command or one start may take."""

    vms: int = 4
    memory_mb: int = 1024
    cpus: int = 2
    seconds: float = 3600
    command_seconds: float = 300


class Workshop:
    """Used from several threads: what counts VMs and makes more is done by one at a time."""

    def __init__(self, client: Client, limits: Limits, *, address: str | None = None) -> None:
        self.client = client
        self.limits = limits
        self.session = secrets.token_hex(6)
        self._address = address
        self._until: dict[str, float] = {}
        self._making = threading.Lock()
        self._is_closed = threading.Event()

    def list_vms(self) -> list[Vm]:
        return self.client.list_vms(label=[f"{LABEL}={self.session}"])

    def require(self, name: str) -> Vm:
        """One of this session's VMs. Others are told apart, and not entered."""
        vm = self.client.get_vm(name)
        if vm["labels"].get(LABEL) != self.session:
            raise NotPermitted(
                f"cannot use VM {name}: this session did not make it", resolution="run an image first"
            )
        return vm

    def run(self, source: str, name: str, memory_mb: int, cpus: int, command: list[str]) -> Vm:
        """A VM of an image or an installed plugin, once its workload is up."""
        if source.startswith((".", "/", "~", "-")) or os.path.exists(source):
            raise InvalidInput(
                f"cannot run {source!r}: only images and installed plugins are run here, no files of this host"
            )
        for what, wanted, most in (
            ("MiB of memory", memory_mb, self.limits.memory_mb),
            ("CPUs", cpus, self.limits.cpus),
        ):
            if not 0 < wanted <= most:
                raise InvalidInput(
                    f"cannot run {source} with {wanted} {what}: at most {most} in this session"
                )
        name = name or f"mcp-{secrets.token_hex(3)}"
        with self._making:
            self._check_room(1)
            self._run_volar(source, name, memory_mb, cpus, command)
            self._note(name)
        return self.client.get_vm(name)

    def _run_volar(self, source: str, name: str, memory_mb: int, cpus: int, command: list[str]) -> None:
        """volar itself: it finds, fetches and converts images, and its output must not get into ours."""
        options = [
            "--detach", "--name", name, "--memory", str(memory_mb), "--cpus", str(cpus),
            "--label", f"{LABEL}={self.session}", "--timeout", str(self.limits.command_seconds),
        ]  # fmt: skip
        place = ["--api", self._address] if self._address else []
        arguments = [sys.executable, "-m", "volant.volar.cli", *place, "run", *options, source]
        environment = {key: os.environ[key] for key in DAEMON_VARIABLES if key in os.environ}
        run_tool(
            [*arguments, *(["--", *command] if command else [])],
            env=environment, what=f"run {source}", timeout_seconds=2 * self.limits.command_seconds,
        )  # fmt: skip

    def fork(self, name: str, copies: list[str]) -> list[Vm]:
        self.require(name)
        with self._making:
            self._check_room(len(copies))
            made = self.client.fork_vm(name, copies)
            for vm in made:
                self._note(vm["name"])
        return [self.client.call("PATCH", f"/vms/{vm['name']}", body=self._label()) for vm in made]

    def _label(self) -> dict[str, dict[str, str]]:
        return {"labels": {LABEL: self.session}}

    def delete(self, name: str) -> None:
        self.require(name)
        self.client.delete_vm(name, force=True, volumes=True)
        self._until.pop(name, None)

    def _check_room(self, more: int) -> None:
        if len(self.list_vms()) + more > self.limits.vms:
            raise Conflict(
                f"cannot make {more} more: this session may have {self.limits.vms} VMs",
                resolution="delete one",
            )

    def _note(self, name: str) -> None:
        self._until[name] = time.monotonic() + self.limits.seconds

    def sweep(self) -> list[str]:
        """Delete what has lived its time; returns the names."""
        over = [name for name, until in list(self._until.items()) if until <= time.monotonic()]
        for name in over:
            with suppress(NotFound, NotPermitted):
                self.delete(name)
            self._until.pop(name, None)
        return over

    def watch(self) -> None:
        """Sweep until closed: for a thread of its own."""
        while not self._is_closed.wait(SWEEP_SECONDS):
            self.sweep()

    def close(self) -> None:
        """Delete all that this session made."""
        self._is_closed.set()
        with self._making:
            for vm in self.list_vms():
                with suppress(NotFound):
                    self.client.delete_vm(vm["name"], force=True, volumes=True)
