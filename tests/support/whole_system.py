# SPDX-License-Identifier: Apache-2.0
"""A Debian as an installer leaves it: partitions, two boot loaders of its own (BIOS and UEFI), cloud-init and sshd.

Made without loop devices or mounts: `mkfs.ext4 -d` takes the tree, mtools fill the boot partition, syslinux writes
itself into the image of a FAT file system. Everything comes from Debian's packages.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = (
    "linux-image-cloud-amd64,systemd-sysv,udev,dbus,iproute2,openssh-server,cloud-init,sudo,"
    "syslinux-common,systemd-boot-efi"
)
SECTOR = 512
MIB = 1 << 20
BOOT_MIB, ROOT_MIB = 128, 1280
SETTINGS = "root=/dev/vda2 rw console=ttyS0 quiet systemd.show_status=0"
CUSTOMIZE = (
    # What is slow to start and shows nothing here.
    'chroot "$1" systemctl mask -q apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service',
    'chroot "$1" systemctl enable -q systemd-networkd.service',
    'printf "/dev/vda2 / ext4 defaults 0 1\\n" > "$1/etc/fstab"',
    'rm -f "$1"/etc/ssh/ssh_host_*',
)


def make_whole_system_disk(cache: Path) -> Path:
    """A QCOW2 of a whole system, kept in `cache` under a name to be changed with what is here."""
    disk = cache / "whole-system-1.qcow2"
    if disk.exists():
        return disk
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        tree = folder / "tree"
        mode = "root" if os.getuid() == 0 else "unshare"
        hooks = [f"--customize-hook={hook}" for hook in CUSTOMIZE]
        retries = '--aptopt=Acquire::Retries "5"'
        _run(
            "mmdebstrap", f"--mode={mode}", "--variant=minbase", "--quiet", f"--include={PACKAGES}", *hooks,
            retries, "bookworm", str(tree),
        )  # fmt: skip
        raw, draft = folder / "disk.raw", folder / "disk.qcow2"
        _assemble(tree, folder, raw)
        _run("qemu-img", "convert", "-O", "qcow2", str(raw), str(draft))
        draft.rename(disk)
    return disk


def _assemble(tree: Path, folder: Path, disk: Path) -> None:
    boot, root = folder / "boot.fat", folder / "root.ext4"
    kernel = next((tree / "boot").glob("vmlinuz-*"))
    initrd = next((tree / "boot").glob("initrd.img-*"))
    _make_boot_partition(tree, folder, boot, kernel, initrd)
    _truncate(root, ROOT_MIB * MIB)
    _run("mkfs.ext4", "-q", "-d", str(tree), "-L", "root", str(root))
    _truncate(disk, (1 + BOOT_MIB + ROOT_MIB + 1) * MIB)
    for part, start_mib in ((boot, 1), (root, 1 + BOOT_MIB)):
        _run(
            "dd",
            f"if={part}",
            f"of={disk}",
            "bs=1M",
            f"seek={start_mib}",
            "conv=notrunc,sparse",
            "status=none",
        )
    code = (tree / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
    entries = _make_partition(1, BOOT_MIB, 0xEF, active=True) + _make_partition(1 + BOOT_MIB, ROOT_MIB, 0x83)
    with disk.open("r+b") as stream:
        stream.write(code[:440].ljust(446, b"\0") + entries.ljust(64, b"\0") + b"\x55\xaa")


def _make_boot_partition(tree: Path, folder: Path, boot: Path, kernel: Path, initrd: Path) -> None:
    (folder / "syslinux.cfg").write_text(
        f"DEFAULT linux\nPROMPT 0\nLABEL linux\n  KERNEL /vmlinuz\n  INITRD /initrd.img\n  APPEND {SETTINGS}\n"
    )
    (folder / "loader.conf").write_text("timeout 0\ndefault debian\n")
    (folder / "debian.conf").write_text(
        f"title Debian\nlinux /vmlinuz\ninitrd /initrd.img\noptions {SETTINGS}\n"
    )
    _truncate(boot, BOOT_MIB * MIB)
    _run("mkfs.fat", "-F", "32", "-n", "BOOT", "-h", str(MIB // SECTOR), str(boot))
    for path in ("EFI", "EFI/BOOT", "loader", "loader/entries"):
        _run("mmd", "-i", str(boot), f"::{path}")
    for source, target in (
        (kernel, "vmlinuz"),
        (initrd, "initrd.img"),
        (folder / "syslinux.cfg", "syslinux.cfg"),
        (tree / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"),
        (folder / "loader.conf", "loader/loader.conf"),
        (folder / "debian.conf", "loader/entries/debian.conf"),
    ):
        _run("mcopy", "-i", str(boot), str(source), f"::{target}")
    _run("syslinux", "--install", str(boot))


def _make_partition(start_mib: int, size_mib: int, kind: int, *, active: bool = False) -> bytes:
    """One entry of an MBR; the addresses by cylinder say that only those by sector count."""
    cylinders = b"\xfe\xff\xff"
    sectors = (start_mib * MIB // SECTOR, size_mib * MIB // SECTOR)
    return bytes([0x80 * active]) + cylinders + bytes([kind]) + cylinders + struct.pack("<II", *sectors)


def _truncate(path: Path, size_bytes: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)


def _run(*command: str) -> None:
    program = shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin:/sbin") or command[0]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, (list(command), done.stdout[-2000:], done.stderr[-2000:])


TOOLS: Sequence[str] = ("mmdebstrap", "mkfs.ext4", "mkfs.fat", "mmd", "syslinux")
