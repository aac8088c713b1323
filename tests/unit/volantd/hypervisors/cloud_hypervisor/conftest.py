# SPDX-License-Identifier: Apache-2.0
"""The fake of Cloud Hypervisor as a program on PATH, and the spec of a VM for it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import fake_cloud_hypervisor
from volant.volantd.hypervisors.base import DiskDrive, VmSpec
from volant.volantd.hypervisors.cloud_hypervisor import driver


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a UNIX socket's name holds at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ch-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a folder of its own, of which a confined program may read everything."""
    place = folder / "bin"
    place.mkdir()
    shutil.copyfile(fake_cloud_hypervisor.__file__, place / "fake.py")
    path = place / "cloud-hypervisor"
    path.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} -I -S {place}/fake.py "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setattr(driver, "find_kvm_obstacle", lambda _: None)
    return path


@pytest.fixture
def spec(folder: Path) -> VmSpec:
    vm = folder / "vm"
    vm.mkdir(mode=0o700)
    for name in ("kernel", "initrd", "root.qcow2", "base.img"):
        (vm / name).write_bytes(b"content")
    return VmSpec(
        id="1f",
        name="web",
        architecture="amd64",
        machine="cloud-hypervisor",
        accelerator="kvm",
        vcpu=2,
        memory_mb=256,
        disks=(DiskDrive(vm / "root.qcow2", "qcow2", "root", backing=(vm / "base.img",)),),
        nics=(),
        socket_folder=vm,
        console_log=vm / "console.log",
        hypervisor_log=vm / "hypervisor.log",
        kernel=vm / "kernel",
        initrd=vm / "initrd",
    )
