# SPDX-License-Identifier: Apache-2.0
"""Which accelerator and machine guests get on this host, found out by trying.

That /dev/kvm opens proves nothing: nested or half-virtualized hosts have one on which QEMU aborts, or stays up with a
guest that never runs. Only a kernel that gets as far as its first process proves KVM (`kvm_probe`). That it does is
kept in a file for as long as the host is up (its boot id), the program and the kernel are the same; that it does not is
believed for a few minutes only, since hosts are busy at times and rights are given later.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from volant.contract.agents import Architecture
from volant.errors import ToolFailed
from volant.process import run_tool
from volant.volantd.hypervisors.base import Accelerator, HostSupport, MachineType
from volant.volantd.hypervisors.clock import measure_tsc_khz
from volant.volantd.hypervisors.host_process import read_boot_id
from volant.volantd.hypervisors.kvm_probe import KVM, Obstacle, find_kvm_obstacle, try_kvm
from volant.whole_file import write_whole_file

DISBELIEF_SECONDS = 300.0


class AcceleratorProbe:
    """Answers `find_support`; thread-safe, since one answer may take minutes and several VMs may ask."""

    def __init__(self, cache: Path, wanted: Literal["auto", "kvm", "tcg"] = "auto") -> None:
        self._cache = cache
        self._wanted = wanted
        self._lock = threading.Lock()
        self._answers: dict[str, HostSupport] = {}

    def find_support(
        self, program: str, architecture: Architecture, *, kernel: Path | None, firmware: bool
    ) -> HostSupport:
        with self._lock:
            key = self._make_key(program, architecture, kernel, firmware)
            support = self._answers.get(key) or self._read(key)
            if support is None:
                support = self._find_out(key, program, architecture, kernel, firmware)
            if support.accelerator == "kvm":
                self._answers[key] = support
            return support

    def _make_key(self, program: str, architecture: Architecture, kernel: Path | None, firmware: bool) -> str:
        parts = [
            read_boot_id(),
            program,
            architecture,
            self._wanted,
            str(firmware),
            str(os.access(KVM, os.W_OK)),
        ]
        for path in (Path(program), kernel):
            if path is not None and path.exists():
                status = path.stat()
                parts += [str(path), str(status.st_size), str(status.st_mtime_ns)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    def _read(self, key: str) -> HostSupport | None:
        found = self._read_last(key)
        if found is None:
            return None
        support, age_seconds = found
        settled = support.accelerator == "kvm" or self._wanted == "tcg"
        return support if settled or 0 <= age_seconds < DISBELIEF_SECONDS else None

    def _read_last(self, key: str) -> tuple[HostSupport, float] | None:
        """The last answer, believed or not, and its age in seconds."""
        path = self._cache / f"host-{key}.json"
        try:
            support = HostSupport(**json.loads(path.read_text()))
            return support, time.time() - path.stat().st_mtime
        except (OSError, ValueError, TypeError):
            return None

    def _find_out(
        self, key: str, program: str, architecture: Architecture, kernel: Path | None, firmware: bool
    ) -> HostSupport:
        version = run_tool([program, "--version"], what="ask QEMU for its version").stdout.split("\n", 1)[0]
        has_microvm = architecture == "amd64" and _has_microvm(program)
        obstacle = self._find_obstacle(program, architecture, kernel, has_microvm)
        accelerator: Accelerator = "tcg" if obstacle else "kvm"
        tsc_khz = measure_tsc_khz() if architecture == "amd64" and accelerator == "tcg" else None
        last = self._read_last(key)
        if (
            tsc_khz
            and last is not None
            and last[0].tsc_khz
            and abs(last[0].tsc_khz - tsc_khz) < tsc_khz / 500
        ):
            tsc_khz = last[0].tsc_khz  # memory of guests that were told this is of use as long as it stays
        machine = choose_machine(
            architecture,
            firmware=firmware,
            has_microvm=has_microvm,
            has_clock=accelerator == "kvm" or tsc_khz is not None,
        )
        support = HostSupport(
            program=program,
            version=version.removeprefix("QEMU emulator version "),
            machine=machine,
            bus="pci" if machine == "q35" else "mmio",
            accelerator=accelerator,
            reason=obstacle.reason if obstacle else "a guest booted with KVM",
            tsc_khz=tsc_khz,
            cure=obstacle.cure if obstacle else "",
        )
        self._write(key, support)
        return support

    def _write(self, key: str, support: HostSupport) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        content = json.dumps(asdict(support)).encode()
        write_whole_file(self._cache / f"host-{key}.json", content, mode=0o600, is_durable=False)

    def _find_obstacle(
        self, program: str, architecture: Architecture, kernel: Path | None, has_microvm: bool
    ) -> Obstacle | None:
        """Why it is TCG, if it is. ToolFailed where KVM was asked for and does not work: it never becomes TCG."""
        if self._wanted == "tcg":
            return Obstacle("TCG was asked for", "unset VOLANT_ACCELERATOR")
        obstacle = find_kvm_obstacle(architecture)
        if obstacle is None and kernel is None:
            obstacle = Obstacle("there is no kernel to try it with", "volar setup kernel")
        if obstacle is None and kernel is not None:
            obstacle = try_kvm(program, architecture, kernel, has_microvm=has_microvm)
        if obstacle is not None and self._wanted == "kvm":
            raise ToolFailed(
                f"cannot use KVM, which VOLANT_ACCELERATOR asks for: {obstacle.reason}",
                resolution=obstacle.cure or "unset VOLANT_ACCELERATOR: guests run on TCG then, more slowly",
            )
        return obstacle


def choose_machine(
    architecture: Architecture, *, firmware: bool, has_microvm: bool, has_clock: bool
) -> MachineType:
    """microvm where it serves: it boots fastest, but knows no firmware disks and has no timer to calibrate
    by."""
    if architecture == "arm64":
        return "virt"
    return "microvm" if has_microvm and has_clock and not firmware else "q35"


def _has_microvm(program: str) -> bool:
    listing = run_tool([program, "-machine", "help"], what="ask QEMU for its machines").stdout
    return any(line.startswith("microvm ") for line in listing.splitlines())
