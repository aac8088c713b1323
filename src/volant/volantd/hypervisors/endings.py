# SPDX-License-Identifier: Apache-2.0
"""What is known of any hypervisor's end, and what that means before its own words count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from volant.volantd.hypervisors.base import CauseKind, CrashCause, EndKind, MachineEnd
from volant.volantd.hypervisors.crash import find_cause
from volant.volantd.hypervisors.host_process import ExitStatus


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """`memory_full`: the VM's own limit was reached; `killed_for_memory`: the host's kernel ended the process, for that
    or for want of its own. `console` and `log` are the last lines."""

    status: ExitStatus
    asked_to_end: bool = False
    memory_full: bool = False
    killed_for_memory: bool = False
    disk_full: bool = False
    console: Sequence[str] = ()
    log: Sequence[str] = ()

    def find_cause(self) -> CrashCause:
        return find_cause(
            self.status,
            self.console,
            killed_for_memory=self.killed_for_memory,
            at_limit=self.memory_full,
            disk_full=self.disk_full,
        )

    def end(self, kind: EndKind, reason: str = "", cause: CrashCause | None = None) -> MachineEnd:
        """`cause` in the place of what the exit status would say."""
        crash = (cause or self.find_cause()) if kind is EndKind.CRASHED else None
        return MachineEnd(kind, reason, self.status.exit_code, self.status.signal, self.disk_full, crash)

    def explain_host(self, program: str) -> MachineEnd | None:
        """What this host did to it, which goes before all else."""
        if self.asked_to_end:
            return self.end(EndKind.KILLED)
        if self.disk_full:
            return self.end(EndKind.CRASHED, "the host's disk is full")
        if self.memory_full:
            what = f"the host's kernel ended {program}: the VM took more memory than its limit"
            return self.end(EndKind.CRASHED, what)
        if self.killed_for_memory:
            return self.end(EndKind.CRASHED, f"the host ran out of memory: its kernel ended {program}")
        return None

    def explain_status(self, program: str) -> MachineEnd | None:
        """A signal, or an exit code that is none of an orderly end."""
        if self.status.signal is not None:
            return self.end(EndKind.CRASHED, f"{program} was ended by {self.status.signal}")
        if self.status.exit_code:
            last = (self.log or ["no word"])[-1]
            return self.end(
                EndKind.CRASHED, f"{program} ended with exit code {self.status.exit_code}: {last}"
            )
        return None

    def explain_panic(self, status: ExitStatus) -> MachineEnd | None:
        """The guest's kernel gave up, by its last words; `status` is what counts for the process's."""
        cause = find_cause(status, self.console, killed_for_memory=False)
        if cause.kind not in (CauseKind.PANIC, CauseKind.GUEST_OUT_OF_MEMORY):
            return None
        what = "the guest ran out of memory: " if cause.kind is CauseKind.GUEST_OUT_OF_MEMORY else ""
        return self.end(EndKind.CRASHED, what + cause.line, cause)

    def explain_silence(self, program: str) -> MachineEnd:
        return self.end(
            EndKind.CRASHED, f"{program} ended without a word, as when it is killed or out of memory"
        )
