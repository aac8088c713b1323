# SPDX-License-Identifier: Apache-2.0
"""What boots a plugin or a VM without volantd: a tar of this document and the files that it names, in this order."""

from __future__ import annotations

from typing import Literal, TypedDict

DOCUMENT = "boot.json"
KERNEL, INITRD, DISK = "vmlinuz", "initrd", "disk"
# The serial numbers by which the guest finds its disks, and where it looks for variables.
ROOT_SERIAL, ENVIRONMENT_SERIAL = "root", "environment"
ENVIRONMENT_FOLDER = "/run/volant/environment"


class BootDocument(TypedDict):
    """`boot` firmware: the disk has a system of its own, and there is neither kernel nor initrd. Without
    `disk_format` there is no disk. `environment`: variables that the guest reads from files on a disk. `left_out`:
    what stays here."""

    boot: Literal["kernel", "firmware"]
    architecture: Literal["amd64", "arm64"]
    firmware: Literal["bios", "uefi"]
    kernel: str
    kernel_arguments: str
    mac: str
    disk_format: Literal["qcow2", "raw"] | None
    disk_bytes: int
    environment: dict[str, str]
    run_once: bool
    stop_seconds: float
    left_out: list[str]
