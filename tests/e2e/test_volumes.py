# SPDX-License-Identifier: Apache-2.0
"""Volumes in real VMs: filled, grown and copied while a workload writes to them, and there when their VM is gone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import Host, fetch, wait_until

PAGES = "/var/www/html"
# Each line is whole or not there, and none is missing before the last.
WRITER = 'n=0; while :; do n=$((n + 1)); echo "line $n" >> /var/www/html/log; done'


@pytest.fixture(scope="module")
def writer(host: Host, nginx_plugin: Path) -> Iterator[str]:
    """A VM whose pages lie on a volume, and a process in it that writes there all the time."""
    host.volar("volumes", "create", "pages", "--size", "64M")
    host.volar("vms", "create", "writer", "--plugin", "nginx", "--volume", f"pages:{PAGES}")
    host.volar("vms", "ssh", "writer", f"nohup sh -c '{WRITER}' >/dev/null 2>&1 &")
    yield "writer"
    for name in ("writer", "reader-1", "reader-2"):
        host.volar("vms", "delete", name, "--force", check=False)
    host.volar("volumes", "delete", "pages", "pages-again", check=False)


def run_in(host: Host, vm: str, command: str) -> str:
    return host.volar("vms", "ssh", vm, command).stdout.strip()


def count_blocks(host: Host) -> int:
    return int(run_in(host, "writer", f"stat -f -c %b {PAGES}"))


def test_a_new_volume_has_what_the_image_has_there(host: Host, writer: str) -> None:
    assert "Hello from Volant!" in fetch(host.vm(writer)["url"])
    assert run_in(host, writer, f"stat -f -c %T {PAGES}; findmnt -no SOURCE {PAGES}").startswith(
        "ext2/ext3\n/dev/vd"
    )
    owners = run_in(
        host,
        writer,
        f"stat -c '%U %a' {PAGES}; mount --bind / /mnt; stat -c '%U %a' /mnt{PAGES}; umount /mnt",
    )
    assert len(set(owners.splitlines())) == 1


def test_it_grows_while_its_vm_runs(host: Host, writer: str) -> None:
    before = count_blocks(host)
    host.volar("volumes", "resize", "pages", "256M")
    assert count_blocks(host) > 3 * before


def test_one_vm_writes_to_it(host: Host, writer: str) -> None:
    refused = host.volar(
        "vms", "create", "reader-1", "--plugin", "nginx", "--volume", f"pages:{PAGES}:ro", check=False
    )
    assert refused.returncode == 5
    assert "VM writer writes to volume pages" in refused.stderr
    assert host.volar("volumes", "delete", "pages", check=False).returncode == 5


def test_a_copy_of_one_instant_and_what_outlives_its_vm(host: Host, writer: str, tmp_path: Path) -> None:
    wait_until("lines", lambda: int(run_in(host, writer, f"wc -l < {PAGES}/log")) > 100)
    host.volar("volumes", "backup", "pages", str(tmp_path / "pages.tar"))
    host.volar("volumes", "restore", str(tmp_path / "pages.tar"), "pages-again")
    volumes = {
        volume["name"]: volume for volume in json.loads(host.volar("volumes", "list", "-o", "json").stdout)
    }
    for name in ("pages", "pages-again"):
        assert volumes[name]["size_bytes"] == 256 << 20
    disk = host.home / "volumes" / volumes["pages-again"]["id"] / "disk.raw"
    host.run("e2fsck", "-f", "-p", str(disk))
    # A process that is killed takes nothing of the volume with it, and neither does its VM.
    os.kill(host.vm(writer)["hypervisor"]["pid"], signal.SIGKILL)
    wait_until(
        "its restart", lambda: (vm := host.vm(writer))["restarts"] == 1 and vm["health"] == "healthy", 120
    )
    assert "Hello from Volant!" in fetch(host.vm(writer)["url"])
    host.volar("vms", "delete", writer)
    for number, volume in (("1", "pages"), ("2", "pages")):
        host.volar(
            "vms", "create", f"reader-{number}", "--plugin", "nginx",
            "--volume", f"{volume}:{PAGES}:ro",
            *(["--volume", "pages-again:/again", "--volume", "/etc/nginx"] if number == "1" else []),
        )  # fmt: skip
    for vm in ("reader-1", "reader-2"):
        assert "Hello from Volant!" in fetch(host.vm(vm)["url"])
        assert "Read-only file system" in run_in(host, vm, f"touch {PAGES}/x 2>&1; true")
    # One that was asked for without a name has what the image has there, and goes with its VM where that is asked for.
    own = run_in(host, "reader-1", "findmnt -no TARGET /etc/nginx; ls /etc/nginx").split()
    assert own[0] == "/etc/nginx"
    assert "nginx.conf" in own
    copied = run_in(host, "reader-1", "cat /again/log").splitlines()
    assert len(copied) > 100
    assert copied == [f"line {number}" for number in range(1, len(copied) + 1)]
    assert len(copied) <= int(run_in(host, "reader-2", f"wc -l < {PAGES}/log"))
    assert "reader-1-etc-nginx" in host.volar("volumes", "list").stdout
    host.volar("vms", "delete", "reader-1", "--volumes")
    left = host.volar("volumes", "list").stdout
    assert "reader-1-etc-nginx" not in left
    assert "pages-again" in left
