# SPDX-License-Identifier: Apache-2.0
"""Programs that play QEMU here write down what they did, which a confined one may not: that has a test of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.volantd.hypervisors import kvm_probe
from volant.volantd.hypervisors.base import DiskDrive, VmSpec


@pytest.fixture(autouse=True)
def _unconfined_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "make_probe_command", lambda command, _files: list(command))


@pytest.fixture
def sleeping(tmp_path: Path) -> VmSpec:
    """A machine whose process is a program that sleeps (`support.sleeping_process`)."""
    return VmSpec(
        id="1f", name="sleeping", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=64,
        disks=(DiskDrive(tmp_path / "root.qcow2", "qcow2", "root"),), nics=(), socket_folder=tmp_path,
        console_log=tmp_path / "console.log", hypervisor_log=tmp_path / "hypervisor.log",
    )  # fmt: skip
