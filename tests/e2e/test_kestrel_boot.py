# SPDX-License-Identifier: Apache-2.0
"""The agent as PID 1 of real machines: what a Linux userland finds, what a broken guest says, what survives.

The guest decides: a script in it prints one line per check. Several checks share a boot, since each costs seconds.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busybox_guest import assert_all_passed, make_busybox_root, make_script, write_image
from support.guest_harness import GuestHarness, ask, make_disk, make_harness, make_overlay, run_in, write_file
from volant.contract.guest_config import GuestNetwork, Interface, Root
from volant.cpio import CpioWriter
from volant.volantd.hypervisors.base import DiskDrive


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("guests"))


@pytest.fixture(scope="module")
def debian_root(base_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("debian") / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", str(base_tar), "-C", str(root)], check=True)
    yield root
    shutil.rmtree(root)


USERLAND = {
    "agent is PID 1": 'test "$(tr "\\0" " " </proc/1/cmdline)" = "/init "',
    "root is the disk": "grep -q \"^/dev/vda / ext4 rw\" /proc/mounts",
    "proc, sys, dev": "test -e /proc/self/stat -a -d /sys/class/net -a -c /dev/null",
    "cgroup2": "grep -q \" /sys/fs/cgroup cgroup2 \" /proc/mounts",
    "pseudo terminals": "grep -q \" /dev/pts devpts \" /proc/mounts && test -e /dev/ptmx",
    "shared memory": "test \"$(stat -c %a /dev/shm)\" = 1777",
    "message queues": "grep -q \" /dev/mqueue mqueue \" /proc/mounts",
    "standard streams": "echo x | cat /dev/stdin && test -L /dev/fd",
    "tmp is left as it is": "! grep -q \" /tmp \" /proc/mounts",
    "run is in RAM": "grep -q \" /run tmpfs \" /proc/mounts",
    "run keeps folders": "test \"$(stat -c %a:%u:%g /run/postgresql)\" = 2775:101:104",
    "run keeps files": "test \"$(cat /run/postgresql/note)\" = kept",
    "run keeps links": "test \"$(readlink /run/link)\" = postgresql/note",
    "agent on PATH": "test \"$(which kestrel)\" = /usr/local/bin/kestrel && kestrel version",
    "agent at its place": "cmp /usr/local/bin/kestrel /run/kestrel/kestrel",
    "journalctl": 'test "$(which journalctl)" = /run/kestrel/bin/journalctl && journalctl -u kestrel | grep -q started',
    "blank volume": 'grep -q " /data ext4 " /proc/mounts && touch /data/x',
    "agent refuses elsewhere": "kestrel; test $? = 78",
    "address": "grep -q 10.0.2.15 /proc/net/fib_trie",
    "default route": "grep -q \"^eth0.00000000.0202000A\" /proc/net/route",
    "hostname": "test \"$(cat /proc/sys/kernel/hostname)\" = test -a \"$(cat /etc/hostname)\" = test",
    "hosts": "grep -q \"^127.0.0.1 localhost\" /etc/hosts && grep -q \"^10.0.2.15 test\" /etc/hosts",
    "hosts keep what is there": "grep -q \"^192.0.2.7 printer\" /etc/hosts",
    "resolv.conf": "grep -q \"^nameserver 10.0.2.3\" /etc/resolv.conf",
    "clock": "test $(date +%Y) -ge 2026",
    "every user binds every port": "test $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start) = 0",
    "open files": "test $(ulimit -n) -ge 65536",
    "entropy": "test $(cat /proc/sys/kernel/random/entropy_avail) -ge 200",
    "grown": "test $(df -k / | tail -1 | sed \"s/  */ /g\" | cut -d\" \" -f2) -gt 700000",
    "orphans are reaped": "(sleep 0.1 & ) ; sleep 0.6; ! grep -l \"^State:.Z\" /proc/[0-9]*/status",
    "little memory": "test $(sed -n \"s/VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p\" /proc/1/status) -le 12288",
}  # fmt: skip


def test_debian_finds_its_userland_and_keeps_what_it_writes(
    harness: GuestHarness, debian_root: Path, tmp_path: Path
) -> None:
    write_file(
        debian_root, "verify", make_script({**USERLAND, "file from the last boot": "cat /root/kept"}), 0o755
    )
    write_file(debian_root, "first", make_script({"write a file": "echo persistent >/root/kept"}), 0o755)
    write_file(
        debian_root,
        "start",
        "#!/bin/sh\nif [ -e /root/kept ]; then exec /verify; else exec /first; fi\n",
        0o755,
    )
    write_file(debian_root, "run/postgresql/note", "kept")
    subprocess.run(["chown", "-R", "101:104", str(debian_root / "run/postgresql")], check=True)
    (debian_root / "run/postgresql").chmod(0o2775)
    (debian_root / "run/link").symlink_to("postgresql/note")
    write_file(debian_root, "etc/hosts", "127.0.0.1 localhost\n192.0.2.7 printer\n")
    (debian_root / "etc/resolv.conf").unlink(missing_ok=True)
    (debian_root / "etc/resolv.conf").symlink_to("/run/systemd/resolve/stub-resolv.conf")
    write_image(debian_root, ["/start"])
    base = make_disk(debian_root, tmp_path / "debian.img", "512M")
    disk = make_overlay(base, tmp_path / "debian.qcow2", "800M")

    first = harness.run(disk)
    assert "PASS write a file" in first, first
    blank = tmp_path / "blank.img"
    with blank.open("wb") as stream:
        stream.truncate(16 << 20)
    console = harness.run(
        disk,
        settings={"mounts": [{"serial": "vol-data", "target": "/data", "format_if_blank": True}]},
        further_disks=[DiskDrive(blank, "raw", "vol-data")],
    )
    assert_all_passed(console, {**USERLAND, "file from the last boot": ""})
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(tmp_path / "after.img")], check=True)
    checked = subprocess.run(["e2fsck", "-fn", str(tmp_path / "after.img")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout  # unmounted in order: nothing to replay, nothing to mend


def test_busybox_with_dhcp_and_a_volume(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    checks = {
        "leased address": "ip addr show eth0 | grep -q 10.0.2.15/24",
        "leased resolver": "grep -q 10.0.2.3 /etc/resolv.conf",
        "gateway answers": "ping -c 1 -W 5 10.0.2.2",
        "volume": "grep -q \" /data/deep ext4 \" /proc/mounts && test -e /data/deep/marker",
        "further hosts": "grep -q \"^192.168.127.101 db db.internal\" /etc/hosts",
    }  # fmt: skip
    write_file(root, "verify", make_script(checks), 0o755)
    write_image(root, ["/verify"])
    write_file(tmp_path / "volume", "marker", "")
    volume = make_disk(tmp_path / "volume", tmp_path / "volume.img", "16M")
    console = harness.run(
        make_disk(root, tmp_path / "disk.img"),
        settings={
            "network": GuestNetwork(
                interfaces=[Interface(mac="52:54:00:12:34:56", mode="dhcp")],
                hosts={"192.168.127.101": ["db", "db.internal"]},
            ),
            "mounts": [{"serial": "vol-data", "target": "/data/deep"}],
        },
        further_disks=[DiskDrive(volume, "raw", "vol-data")],
    )
    assert_all_passed(console, checks)


@pytest.mark.guide("11-1")
def test_one_static_binary_is_enough_for_a_batch_job(harness: GuestHarness, tmp_path: Path) -> None:
    """`/` holds one file and the agent's data: no /etc of its own, no shell, no mount points. Its end is the VM's."""
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(harness.agent, root / "app")
    write_image(root, ["/app", "version"])
    disk = make_disk(root, tmp_path / "disk.img")
    console = harness.run(disk, network=False, memory_mb=128, settings={"workload": {"type": "batch"}})
    assert "[workload] kestrel " in console
    assert "the workload has ended with 0: powering off" in console
    assert "warning" not in console, console


def test_a_read_only_disk_still_gets_its_names(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    for name in ("hosts", "hostname", "resolv.conf"):
        write_file(root, f"etc/{name}", "")
    checks = {
        "read-only": "! touch /x",
        "resolv.conf": "grep -q 10.0.2.3 /etc/resolv.conf",
        "hosts": "grep -q 10.0.2.15 /etc/hosts",
        # Put over the disk once the workload has been started.
        "agent": "for n in $(seq 40); do which kestrel && break; sleep 0.5; done; kestrel version",
    }
    write_file(root, "verify", make_script(checks).replace("/tmp/why", "/dev/shm/why"), 0o755)
    write_image(root, ["/verify"])
    console = harness.run(
        make_disk(root, tmp_path / "disk.img"), settings={"root": Root(read_only=True)}, read_only=True
    )
    assert_all_passed(console, checks)


def test_a_plugin_in_ram_needs_no_disk(harness: GuestHarness, tmp_path: Path) -> None:
    root = make_busybox_root(tmp_path / "root")
    checks = {
        "root is RAM": '! grep -q "^/dev/vda / " /proc/mounts',
        "run": 'grep -q " /run tmpfs " /proc/mounts',
    }
    write_file(root, "verify", make_script(checks), 0o755)
    write_image(root, ["/verify"])
    archive = tmp_path / "plugin.cpio"
    with archive.open("wb") as stream:
        writer = CpioWriter(stream)
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root)).encode()
            content = (
                bytes(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            )
            writer.add(name, path.lstat().st_mode, content)
        writer.finish()
    assert_all_passed(harness.run(None, settings={"root": None}, initramfs=archive, network=False), checks)


@pytest.mark.parametrize(
    ("guest_json", "reason"),
    [
        (None, "cannot read guest.json of the boot archive"),
        (b'{"vm_id": "a"', "it is not valid JSON"),
        (b'{"vm_id": "a", "modules": ["virtio_ring.ko"]}', 'no disk has the serial number "root"'),
    ],
    ids=["missing", "malformed", "no disk"],
)
@pytest.mark.guide("13.3-2")
def test_an_impossible_boot_says_why_and_powers_off(
    harness: GuestHarness, guest_json: bytes | None, reason: str
) -> None:
    console = harness.run(None, guest_json=guest_json, without_guest_json=guest_json is None, network=False)
    line = next(line for line in console.splitlines() if "cannot boot" in line)
    assert line.startswith("kestrel: cannot boot: ") and reason in line


def test_a_disk_that_holds_no_file_system_is_named(harness: GuestHarness, tmp_path: Path) -> None:
    disk = tmp_path / "blank.img"
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    console = harness.run(disk, network=False)
    assert "kestrel: cannot boot: cannot mount the root disk: /dev/vda as ext4" in console
    assert "it holds no ext4 file system" in console


@pytest.mark.guide("13.3-3")
async def test_a_broken_config_leaves_the_guest_up_and_reachable(
    harness: GuestHarness, tmp_path: Path
) -> None:
    root = make_busybox_root(tmp_path / "root")
    write_file(root, "etc/kestrel/config.yaml", "exec:\n  - name: web\n    comand: /bin/true\n")
    with harness.boot(make_disk(root, tmp_path / "disk.img")) as guest:
        guest.wait_for("boot: nothing was started")
        state = await ask(guest, harness, "state.get", {})
        assert state["phase"] == "failed"
        assert "/etc/kestrel/config.yaml:2" in str(state["reason"])
        assert await run_in(guest, harness, "echo still here; hostname") == "still here\ntest\n"
        await ask(guest, harness, "power.stop", {"action": "poweroff", "deadline_seconds": 5})
        guest.wait_for_end()


def test_a_machine_in_which_no_timer_was_found_boots_again(harness: GuestHarness) -> None:
    # What a kernel does that could not calibrate it while its host was busy.
    console = harness.run(None, kernel_arguments=("nolapic_timer",))
    assert "kestrel: booting again: the kernel has found no timer" in console
