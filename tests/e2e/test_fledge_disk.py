# SPDX-License-Identifier: Apache-2.0
"""fledge's own disks under a real kernel: read, written, grown while mounted, and torn away in the middle of work."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.guest_harness import GuestHarness, make_harness, write_file
from support.written_plugins import write_plugin_file
from volant.contract.manifest import Manifest
from volant.contract.plugin_archive import read_plugin_archive
from volant.filesystems.ext4 import plan_ext4
from volant.filesystems.filetree import ROOT, FileTree, Metadata
from volant.fledge.initramfs import read_folder
from volant.fledge.plugin_archive import DiskOptions
from volant.progress import SilentMonitor

MANY = 20_000
SCRIPT = """#!/bin/sh
check() { if sh -c "$2" >/tmp/why 2>&1; then echo "PASS $1"; else echo "FAIL $1: $(tail -3 /tmp/why)"; fi; }
if [ ! -e /after-crash ]; then
    check listed 'test $(ls /many | wc -l) = 20000'
    check found 'test -e /many/file-19999 && ! test -e /many/file-20000'
    check links 'test $(stat -c %h /first) = 2 && cmp /first /second'
    check time 'test $(stat -c %Y /first) = 8589934592'
    check device 'test "$(stat -c %t:%T /zero)" = 1:5 && test $(head -c 9 /zero | wc -c) = 9'
    check sparse 'test $(stat -c %s /holes) = 1099511627776'
    check written 'for i in $(seq 500); do echo $i > /many/new-$i || exit 1; done; rm /many/file-1????'
    check large 'dd if=/dev/zero of=/big bs=1M count=200'
    # The agent grows the disk while the workload is already running.
    is_grown() { test $(df -k / | tail -1 | sed "s/  */ /g" | cut -d" " -f2) -gt 19000000; }
    for i in $(seq 60); do is_grown && break; sleep 0.5; done
    is_grown && echo PASS grown || echo FAIL grown
    touch /after-crash
    sync
    sleep 1
    echo b > /proc/sysrq-trigger
fi
check kept 'test $(ls /many | wc -l) = 10500 && test $(cat /many/new-500) = 500'
check kept-large 'test $(stat -c %s /big) = 209715200'
echo verified
kill -TERM 1
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> GuestHarness:
    return make_harness(tmp_path_factory.mktemp("guests"))


def make_tree(root: Path, stack: ExitStack) -> FileTree:
    for name in ("dev", "proc", "sys", "run", "tmp", "etc", "bin"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    listing = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for applet in listing.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    write_file(root, "verify", SCRIPT, 0o755)
    write_file(root, "etc/kestrel/image.json", '{"cmd": ["/verify"]}')
    tree = read_folder(root, stack, 0)
    file = Metadata(stat.S_IFREG | 0o644, mtime=1 << 33)
    many = tree.add_directory(ROOT, b"many", Metadata(stat.S_IFDIR | 0o755))
    for number in range(MANY):
        tree.add_file(many, b"file-%d" % number, file, 0)
    descriptor = os.open(root / "bin" / "busybox", os.O_RDONLY)
    stack.callback(os.close, descriptor)
    first = tree.add_file(ROOT, b"first", file, 50_000, tree.add_source(descriptor))
    tree.add_link(ROOT, b"second", first)
    tree.add_special(ROOT, b"zero", Metadata(stat.S_IFCHR | 0o666), 1, 5)
    tree.add_file(ROOT, b"holes", file, 1 << 40, sparse=())
    return tree


def test_a_real_kernel_reads_writes_grows_and_recovers_it(harness: GuestHarness, tmp_path: Path) -> None:
    disk = tmp_path / "rootfs.qcow2"
    with ExitStack() as stack:
        image = plan_ext4(make_tree(tmp_path / "root", stack), size_bytes=256 << 20)
        plugin = tmp_path / "plugin.tar.gz"
        manifest = Manifest(name="app", version="1.0.0")
        write_plugin_file(plugin, image, manifest, DiskOptions(), SilentMonitor())
        stream = stack.enter_context(plugin.open("rb"))
        with disk.open("w+b") as output:
            read_plugin_archive(stream, output.fileno())
    overlay = tmp_path / "overlay.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(disk), str(overlay), "20G"],
        check=True,
    )
    with harness.boot(overlay) as guest:
        first = guest.wait_for("sysrq: Resetting")
    assert "FAIL" not in first and first.count("PASS ") == 9, first
    second = harness.run(overlay)
    assert "verified" in second and "FAIL" not in second, second
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", str(overlay), str(tmp_path / "after.img")], check=True
    )
    checked = subprocess.run(["e2fsck", "-fn", str(tmp_path / "after.img")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
