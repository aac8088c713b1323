# SPDX-License-Identifier: Apache-2.0
"""A disk with partitions and a boot loader of its own, as installers leave it: firmware, cloud-init, own sshd."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guide_projects import type_in
from support.host import CACHE, Host, wait_until
from support.whole_system import make_whole_system_disk

BOOT_SECONDS = 400
MANIFEST = {"name": "whole", "version": "1.0.0", "resources": {"vcpu": 1, "memory_mb": 768}}


@pytest.fixture(scope="module")
def whole() -> Iterator[Host]:
    """A host of its own, which needs no kernel for guests, with the plugin installed."""
    host = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        folder = host.home / "by-hand"
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(MANIFEST))
        type_in(host, folder, "qemu-img create -f qcow2 rootfs.qcow2 10G")
        # Where the guide has virt-install: the system is put into the disk that was just made.
        installed = make_whole_system_disk(CACHE)
        type_in(host, folder, f"qemu-img convert -n --target-is-zero -O qcow2 {installed} rootfs.qcow2")
        type_in(host, folder, "tar czf plugin.tar.gz rootfs.qcow2 manifest.json", timeout=600)
        (folder / "rootfs.qcow2").unlink()
        type_in(host, folder, "volar plugins install ./plugin.tar.gz")
        (folder / "plugin.tar.gz").unlink()
        yield host
    finally:
        host.close()


@pytest.mark.guide("2.3-1", "2.3-3")
def test_a_whole_system_boots_lets_us_in_and_powers_off(whole: Host) -> None:
    whole.volar("vms", "create", "whole", "--plugin", "whole")
    vm = whole.vm("whole")
    assert "boots its own system" in vm["status_reason"]
    assert [port["guest_port"] for port in vm["ports"]] == [22]

    # No key was given and no host is known: `vms ssh` waits, and asks nothing.
    done = whole.volar(
        "vms", "ssh", "whole", "id -un; cat /etc/hostname; ip -4 -o address", timeout=BOOT_SECONDS
    )
    assert done.stdout.splitlines()[:2] == ["root", "whole"]
    assert "10.0.2.15/24" in done.stdout
    assert "waiting for the SSH server" in done.stderr
    done = whole.volar("vms", "ssh", "-u", "debian", "whole", "sudo id -un; exit 7", check=False)
    assert (done.returncode, done.stdout) == (7, "root\n")
    assert whole.volar("vms", "ssh", "-u", "daemon", "whole", "id", check=False).returncode == 255
    note = whole.home / "note"
    note.write_text("carried\n")
    whole.volar("vms", "cp", str(note), "whole:/root/")
    assert whole.volar("vms", "exec", "whole", "--", "cat", "/root/note").stdout == "carried\n"
    assert "console" in whole.volar("vms", "port-forward", "whole", "80", check=False).stderr

    # Its own key is nobody else's: without the daemon's signature the way is closed.
    port = vm["ports"][0]
    plain = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
    plain += [
        "-o",
        f"UserKnownHostsFile={whole.home / 'hosts'}",
        "-o",
        f"IdentityFile={whole.home}/ssh/id_ed25519",
    ]
    plain += ["-p", str(port["host_port"]), f"root@{port['host_ip']}", "id"]
    assert whole.run(*plain, check=False).returncode == 255

    stopped = whole.volar("vms", "stop", "whole", "--timeout", "120", timeout=BOOT_SECONDS)
    assert stopped.returncode == 0
    vm = whole.vm("whole")
    assert (vm["status"], vm["status_reason"]) == ("stopped", "")
    console = whole.volar("vms", "logs", "whole", "--console").stdout
    assert "reboot: Power down" in console
    wait_until("its processes have ended", lambda: len(whole.processes()) <= 1)
