# SPDX-License-Identifier: Apache-2.0
"""Guests without something: a network, a shell, name files, a DHCP server, anybody who reads their console."""

from __future__ import annotations

import base64
import os
import shutil
import socket
from pathlib import Path

import pytest

from support.busybox_guest import assert_all_passed, make_busybox_root, make_script, write_image
from support.guest_harness import MACS, GuestHarness, ask, make_disk, make_harness, run_in, write_file
from volant.contract.guest_config import GuestNetwork, Interface, Root
from volant.volantd.hypervisors.base import DiskDrive


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


NAME_CHECKS = {
    "read-only": "! touch /x",
    "hostname": 'test "$(cat /etc/hostname)" = test',
    "hosts": 'grep -q "^10.0.2.15 test" /etc/hosts',
    "resolv.conf": 'grep -q "^nameserver 10.0.2.3" /etc/resolv.conf',
    "mtab": "df -T / | grep -q ext4 && test -L /etc/mtab",
    "machine-id": "grep -qE '^[0-9a-f]{32}$' /etc/machine-id",
    "what else is in etc": 'test "$(stat -c %a:%u:%g /etc/shadow)" = 640:0:42 && test "$(cat /etc/link)" = kept',
    "etc itself": 'test "$(stat -c %a /etc)" = 751',
}


def test_a_read_only_disk_without_name_files(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_file(root, "etc/shadow", "kept", 0o640)
    os.chown(root / "etc/shadow", 0, 42)
    (root / "etc/link").symlink_to("shadow")
    (root / "etc/resolv.conf").symlink_to("/usr/lib/nowhere/resolv.conf")
    (root / "etc").chmod(0o751)
    write_file(root, "verify", make_script(NAME_CHECKS).replace("/tmp/why", "/dev/shm/why"), 0o755)
    write_image(root, ["/verify"])
    console = harness.run(
        make_disk(root, tmp_path / "disk.img"), settings={"root": Root(read_only=True)}, read_only=True
    )
    assert_all_passed(console, NAME_CHECKS)
    assert "warning" not in console, console


NETWORK_CHECKS = {
    "no lease yet": "! ip -4 addr show eth1 | grep inet",
    "IPv6 address": 'grep -q "^fec00000000000000000000000000015 .. 40 .*eth0" /proc/net/if_inet6',
    "IPv6 default route": 'grep -q "^0\\{32\\} 00 0\\{32\\} 00 fec00000000000000000000000000002 .*eth0" '
    "/proc/net/ipv6_route",
    "IPv6 gateway answers": "ping6 -c 1 -W 20 fec0::2",
    "own name": 'grep -q "^fec0::15 test" /etc/hosts',
    "late lease": "until ip -4 addr show eth1 | grep -q 10.0.9.15/24; do sleep 0.1; done",
    "late resolver": "until grep -q 10.0.9.3 /etc/resolv.conf; do sleep 0.1; done",
    "late gateway answers": "ping -c 1 -W 20 10.0.9.2",
}


async def test_ipv6_and_a_dhcp_server_that_comes_late(harness: GuestHarness, tmp_path: Path) -> None:
    """Two cards: one with a static IPv6 address only, one on a wire where nobody answers until the guest is up."""
    root = make_busybox_root(tmp_path / "root")
    write_file(root, "verify", make_script(NETWORK_CHECKS), 0o755)
    write_image(root, ["/verify"])
    interfaces = [
        Interface(mac=MACS[0], mode="static", addresses=["fec0::15/64"], gateway6="fec0::2"),
        Interface(mac=MACS[1], mode="dhcp"),
    ]
    with harness.boot(
        make_disk(root, tmp_path / "disk.img"),
        settings={"network": GuestNetwork(interfaces=interfaces)},
        netdevs=[
            "user,id=net0,ipv4=off",
            "hubport,id=net1,hubid=0",
            # A hub with one port delivers nothing, not even later: this one takes packets and does not answer.
            "user,id=quiet,ipv4=off,ipv6-prefix=fec9::",
            "hubport,id=quiet-port,hubid=0,netdev=quiet",
        ],
    ) as guest:
        console = guest.wait_for("PASS own name")
        assert [line for line in console.splitlines() if "DHCP" in line] == [
            f"[kestrel] warning: cannot configure the network interface {MACS[1]}: "
            "no DHCP server answered within 10s; still asking"
        ]
        async with guest.open_monitor() as monitor:
            server = {"type": "user", "id": "late", "net": "10.0.9.0/24", "ipv6": False}
            await monitor.execute("netdev_add", server)
            await monitor.execute(
                "netdev_add", {"type": "hubport", "id": "late-port", "hubid": 0, "netdev": "late"}
            )
        assert_all_passed(guest.wait_for_end(), NETWORK_CHECKS)


async def test_a_console_that_nobody_reads_does_not_keep_the_guest_on(
    harness: GuestHarness, tmp_path: Path
) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_image(root, ["/bin/yes", "a line of some length that is written again and again"])
    with (
        harness.boot(make_disk(root, tmp_path / "disk.img")) as guest,
        socket.socket(socket.AF_UNIX) as reader,
    ):
        guest.wait_for("[kestrel] ")
        reader.connect(str(guest.spec.socket_folder / "console.sock"))
        much = "until test $(du -sk /var/log/kestrel | cut -f1) -gt 2000; do sleep 0.1; done"
        await run_in(guest, harness, much)
        assert len(guest.console) < 10_000, "the console was read"  # or it would have had 32 KiB at once
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 5})
        guest.wait_for_end()


async def test_a_process_that_cannot_be_killed_does_not_keep_the_guest_on(
    harness: GuestHarness, tmp_path: Path
) -> None:
    """Whoever writes to a frozen file system sleeps where no signal reaches, as with a disk that does not answer."""
    root = make_busybox_root(tmp_path / "root")
    write_image(root, ["/bin/sh", "-c", "fsfreeze --freeze /data; echo frozen; exec touch /data/file"])
    volume = make_disk(tmp_path / "root" / "etc", tmp_path / "volume.img", "16M")
    with harness.boot(
        make_disk(root, tmp_path / "disk.img"),
        settings={"mounts": [{"serial": "vol-data", "target": "/data"}]},
        further_disks=[DiskDrive(volume, "raw", "vol-data")],
    ) as guest:
        guest.wait_for("[workload] frozen")
        asleep = 'until grep -q "^State:.D" $(grep -l "^Name:.touch" /proc/[0-9]*/status); do sleep 0.1; done'
        await run_in(guest, harness, asleep)
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 1})
        console = guest.wait_for_end()
    assert "process workload did not end before the deadline of the stop: killing it" in console
    assert "not all processes have ended" in console
