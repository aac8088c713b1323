# SPDX-License-Identifier: Apache-2.0
"""The small guest by which a Cloud Hypervisor shows that it runs guests here: a pure function."""

from __future__ import annotations

from pathlib import Path

from volant.contract.agents import Architecture


def make_probe_arguments(program: str, architecture: Architecture, kernel: Path, initrd: Path) -> list[str]:
    console = "ttyAMA0" if architecture == "arm64" else "ttyS0"
    return [
        program, "--seccomp", "true", "--cpus", "boot=1", "--memory", "size=128M", "--serial", "tty",
        "--console", "off", "--kernel", str(kernel), "--initramfs", str(initrd),
        "--cmdline", f"console={console} loglevel=6 panic=-1 cryptomgr.notests",
    ]  # fmt: skip
