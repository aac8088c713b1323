# SPDX-License-Identifier: Apache-2.0
"""Hosts that lack something: one clear error, an exit code, and no VM left behind."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import PROGRAMS, Host


@pytest.fixture
def bare_host(nginx_plugin: Path) -> Iterator[Host]:
    """A host with the plugin and nothing else: no kernel was set up."""
    found = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        found.volar("plugins", "install", str(nginx_plugin))
        yield found
    finally:
        found.close()


def test_no_kernel(bare_host: Host) -> None:
    refused = bare_host.volar("vms", "create", "web", "--plugin", "nginx", check=False)
    assert refused.returncode == 4
    assert "no kernel" in refused.stderr
    assert "volar setup kernel" in refused.stderr
    assert bare_host.volar("vms", "list", "--output", "name").stdout == ""


def test_no_qemu(bare_host: Host, tmp_path: Path) -> None:
    bare_host.volar("setup", "kernel")
    bare_host.volar("daemon", "stop")
    # Every program of this machine but QEMU's own.
    for folder in ("/usr/bin", "/bin"):
        for program in os.scandir(folder):
            if not program.name.startswith("qemu-system") and not (tmp_path / program.name).exists():
                (tmp_path / program.name).symlink_to(program.path)
    bare_host.environment["PATH"] = f"{PROGRAMS}:{tmp_path}"
    refused = bare_host.volar("vms", "create", "web", "--plugin", "nginx", check=False)
    assert refused.returncode == 7
    assert "qemu-system" in refused.stderr
    assert "apt-get install" in refused.stderr
    assert bare_host.volar("vms", "list", "--output", "name").stdout == ""


def test_kvm_is_meant_where_it_is_asked_for(bare_host: Host) -> None:
    """On a host whose KVM runs guests the VM is on it; on any other it is refused with the reason."""
    bare_host.volar("setup", "kernel")
    bare_host.volar("daemon", "stop")
    bare_host.environment["VOLANT_ACCELERATOR"] = "kvm"
    created = bare_host.volar("vms", "create", "web", "--plugin", "nginx", "--no-wait", check=False)
    if created.returncode == 0:
        assert bare_host.vm("web")["hypervisor"]["accelerator"] == "kvm"
        return
    assert created.returncode == 8
    assert "cannot use KVM, which VOLANT_ACCELERATOR asks for: " in created.stderr
    assert bare_host.volar("vms", "list", "--output", "name").stdout == ""
    findings = json.loads(bare_host.volar("doctor", "--output", "json", check=False).stdout)
    (found,) = (finding for finding in findings if finding["subject"] == "accelerator")
    assert found["state"] == "missing"
    assert found["fact"] in created.stderr
