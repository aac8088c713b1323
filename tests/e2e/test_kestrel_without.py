# SPDX-License-Identifier: Apache-2.0
"""Guests without something: a network, a shell, name files, a DHCP server, anybody who reads their console."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import pytest

from e2e.guest_harness import GuestHarness, ask, make_disk, make_harness
from e2e.test_kestrel_boot import write_image


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("without"))


USER_DATA = """#cloud-config
packages: [curl]
runcmd:
  - [/busybox, touch, /list-ran]
  - echo a string needs a shell
  - [/busybox, touch, /list-ran-again]
"""


async def test_user_data_without_network_and_shell(harness: GuestHarness, tmp_path: Path) -> None:
    """What cannot be done is told, each with its reason; all else is done, and the workload starts."""
    root = tmp_path / "root"
    (root / "sbin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "busybox")
    (root / "sbin" / "apk").symlink_to("/busybox")  # which fails in another way if it is run at all
    write_image(root, ["/busybox", "ls", "/list-ran", "/list-ran-again"])
    settings = {
        "cloud_init": {
            "instance_id": "i-1",
            "user_data_base64": base64.b64encode(USER_DATA.encode()).decode(),
        }
    }
    with harness.boot(make_disk(root, tmp_path / "disk.img"), settings=settings, network=False) as guest:
        console = guest.wait_for("boot: main to exec")
        assert "cloud-init: packages: cannot fetch packages: this VM has no network" in console
        state = await ask(guest, harness, "state.get", {})
        assert state["cloud_init"] == {
            "status": "error",
            "by": "kestrel",
            "errors": [
                "packages: cannot fetch packages: this VM has no network",
                "runcmd: command 2 is a string, which needs /bin/sh, and this image has none: write it as a list",
            ],
        }
        guest.wait_for("[workload] /list-ran\n[workload] /list-ran-again\n")
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 5})
        guest.wait_for_end()
