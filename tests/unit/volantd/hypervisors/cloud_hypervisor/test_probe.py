# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from volant.volantd.hypervisors.cloud_hypervisor.probe import make_probe_arguments


def test_the_probes_guest() -> None:
    assert make_probe_arguments("ch", "amd64", Path("/vmlinux"), Path("/initrd")) == [
        "ch", "--seccomp", "true", "--cpus", "boot=1", "--memory", "size=128M", "--serial", "tty",
        "--console", "off", "--kernel", "/vmlinux", "--initramfs", "/initrd",
        "--cmdline", "console=ttyS0 loglevel=6 panic=-1 cryptomgr.notests",
    ]  # fmt: skip
