# SPDX-License-Identifier: Apache-2.0
"""systemd as the workload: process 1 of a place of its own, with journald, nginx as its unit, and an end in order."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from support.busybox_guest import write_image
from support.guest_harness import (
    Guest,
    GuestHarness,
    ask,
    connect,
    make_disk,
    make_harness,
    run_in,
    write_file,
)

UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c "true"
ExecStop=/bin/sh -c "echo the unit was stopped in order >/dev/console"

[Install]
WantedBy=multi-user.target
"""
IN_A_SESSION = {
    "cat /proc/1/comm": "systemd",
    "systemctl is-active nginx": "active",
    "curl -s http://127.0.0.1/ | grep -c 'Welcome to nginx'": "2",
    "journalctl -u nginx -o cat --no-pager | grep -c Started": "1",
    "journalctl -u kestrel -o cat | grep -c 'process workload started'": "1",
    "cat /proc/1/cgroup": "0::/init.scope",
    "tr '\\0' '\\n' </proc/1/environ | grep ^container=": "container=kestrel",
    "touch /sys/x 2>/dev/null || echo read-only": "read-only",
    "systemctl list-units --failed --no-legend | wc -l": "0",
    "kestrel version >/dev/null && which kestrel": "/usr/local/bin/kestrel",
    "lsmod >/dev/null; modprobe dummy && test -e /sys/module/dummy && echo loaded": "loaded",
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("systemd"))


async def wait_until_healthy(guest: Guest, harness: GuestHarness) -> None:
    deadline = time.monotonic() + 300
    while (state := await ask(guest, harness, "state.get", {}))["health"] != "healthy":
        if time.monotonic() > deadline:
            pytest.fail(f"the guest is {state}\n{guest.console}")
        await asyncio.sleep(0.5)


@pytest.fixture
def system_disk(system_tar: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", str(system_tar), "-C", str(root)], check=True)
    write_image(root, ["/sbin/init"])
    write_file(root, "etc/systemd/system/last.service", UNIT)
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    (wanted / "last.service").symlink_to("/etc/systemd/system/last.service")
    for service in ("docker.service", "containerd.service"):  # Docker is another test's
        (wanted / service).unlink()
    disk = make_disk(root, tmp_path / "disk.img", "2G")
    shutil.rmtree(root)
    return disk


async def test_systemd_runs_its_units_in_a_place_of_its_own(harness: GuestHarness, system_disk: Path) -> None:
    settings = {"workload": {"type": "http", "port": 80}}
    with harness.boot(system_disk, memory_mb=512, settings=settings) as guest:
        guest.wait_for("boot: main to exec")
        await wait_until_healthy(guest, harness)  # nginx answers
        await run_in(guest, harness, "systemctl is-system-running --wait || true")
        async with await connect(guest, harness) as connection:
            found = {}
            for command in IN_A_SESSION:
                found[command] = str((await connection.run(command)).stdout).strip()
        assert found == IN_A_SESSION
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 120})
        console = guest.wait_for_end(180)
    assert "the unit was stopped in order" in console
    assert "process workload stopped: powered off" in console
