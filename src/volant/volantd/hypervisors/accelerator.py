# SPDX-License-Identifier: Apache-2.0
"""Which accelerator and machine guests get on this host, found out by trying.

That /dev/kvm opens proves nothing: nested or half-virtualized hosts have one on which QEMU aborts, or stays
up with a guest that never runs. Only a kernel that gets as far as its first process, within two seconds,
proves KVM. The answer is kept in a file for as long as the host is up (its boot id), the program and the
kernel are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from volant.contract.agents import Architecture
from volant.cpio import CpioWriter
from volant.process import run_tool, start_tool
from volant.volantd.hypervisors.base import Accelerator, HostSupport, MachineType
from volant.volantd.hypervisors.clock import measure_tsc_khz
from volant.volantd.hypervisors.host_process import read_boot_id

KVM = Path("/dev/kvm")
PROBE_SECONDS = 2.0
# The kernel's last line before it hands over to the initramfs (init/main.c, run_init_process).
MARKER = b"Run /init as init process"


class AcceleratorProbe:
    """Answers `find_support`; thread-safe, since one answer may take two seconds and several VMs may ask."""

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
            if key not in self._answers:
                self._answers[key] = self._read(key) or self._find_out(
                    key, program, architecture, kernel, firmware
                )
            return self._answers[key]

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
        try:
            return HostSupport(**json.loads((self._cache / f"host-{key}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _find_out(
        self, key: str, program: str, architecture: Architecture, kernel: Path | None, firmware: bool
    ) -> HostSupport:
        version = run_tool([program, "--version"], what="ask QEMU for its version").stdout.split("\n", 1)[0]
        accelerator, reason = self._choose_accelerator(program, architecture, kernel)
        tsc_khz = measure_tsc_khz() if architecture == "amd64" and accelerator == "tcg" else None
        machine = choose_machine(
            architecture,
            firmware=firmware,
            has_microvm=_has_microvm(program) if architecture == "amd64" else False,
            has_clock=accelerator == "kvm" or tsc_khz is not None,
        )
        support = HostSupport(
            program=program,
            version=version.removeprefix("QEMU emulator version "),
            machine=machine,
            bus="pci" if machine == "q35" else "mmio",
            accelerator=accelerator,
            reason=reason,
            tsc_khz=tsc_khz,
        )
        self._write(key, support)
        return support

    def _write(self, key: str, support: HostSupport) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._cache, prefix=".host-", delete=False) as file:
            json.dump(asdict(support), file)
        os.replace(file.name, self._cache / f"host-{key}.json")

    def _choose_accelerator(
        self, program: str, architecture: Architecture, kernel: Path | None
    ) -> tuple[Accelerator, str]:
        if self._wanted == "tcg":
            return "tcg", "TCG was asked for"
        if (problem := find_kvm_obstacle(architecture)) is not None:
            return "tcg", problem
        if kernel is None:
            return "tcg", "no kernel to try KVM with"
        if (problem := try_kvm(program, architecture, kernel)) is not None:
            return "tcg", f"KVM does not work here: {problem}"
        return "kvm", "a guest booted with KVM"


def find_kvm_obstacle(architecture: Architecture) -> str | None:
    """Why KVM need not even be tried, or None."""
    host: Architecture = "arm64" if os.uname().machine == "aarch64" else "amd64"
    if architecture != host:
        return f"{architecture} guests on a {host} host"
    if not KVM.exists():
        return "this host has no /dev/kvm (hardware virtualization is off or not passed on)"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return "no permission to open /dev/kvm (add this user to the group kvm)"
    return None


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


def try_kvm(
    program: str, architecture: Architecture, kernel: Path, timeout_seconds: float = PROBE_SECONDS
) -> str | None:
    """Boot `kernel` with KVM to its first process: None when it got there, else what happened."""
    with tempfile.TemporaryDirectory(prefix="volant-probe-") as name:
        initrd = Path(name) / "initrd"
        with initrd.open("wb") as stream:
            archive = CpioWriter(stream)
            archive.add(b"init", stat.S_IFREG | 0o755, b"not a program: the kernel only has to find it\n")
            archive.finish()
        return _run_probe(make_probe_arguments(program, architecture, kernel, initrd), timeout_seconds)


def make_probe_arguments(program: str, architecture: Architecture, kernel: Path, initrd: Path) -> list[str]:
    machine, console = ("virt", "ttyAMA0") if architecture == "arm64" else ("q35", "ttyS0")
    return [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", machine,
        "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "128M", "-serial", "stdio",
        "-kernel", str(kernel), "-initrd", str(initrd),
        "-append", f"console={console} panic=-1 reboot=t cryptomgr.notests",
    ]  # fmt: skip


def _run_probe(arguments: Sequence[str], timeout_seconds: float) -> str | None:
    seen = bytearray()
    reached = threading.Event()
    with start_tool(arguments, stderr=subprocess.STDOUT) as process:
        output = process.stdout
        assert output is not None

        def read() -> None:
            while chunk := os.read(output.fileno(), 65536):
                seen.extend(chunk)
                if MARKER in seen:
                    break
            reached.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        began = time.monotonic()
        reached.wait(timeout_seconds)
        took = time.monotonic() - began
        process.kill()
        process.wait()
        reader.join(1)
    if MARKER in seen:
        return None
    lines = [line for line in seen.decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1].strip()[:200] if lines else "not a word"
    return f"a test guest said {last!r}" if took < timeout_seconds else f"no boot in {took:.0f} s ({last!r})"
