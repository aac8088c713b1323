# SPDX-License-Identifier: Apache-2.0
"""UEFI for disks that the BIOS cannot boot: the distribution's OVMF, and each VM's own copy of its variables."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from volant.contract.agents import Architecture
from volant.errors import ToolMissing

PACKAGES: dict[Architecture, str] = {"amd64": "ovmf", "arm64": "qemu-efi-aarch64"}
# Program and empty variables, as Debian and Ubuntu, Fedora, and Arch name them; without Secure Boot, which needs SMM.
PLACES: dict[Architecture, tuple[tuple[str, str], ...]] = {
    "amd64": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
        ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ),
    "arm64": (("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),),
}


@dataclass(frozen=True, slots=True)
class Uefi:
    code: Path
    empty_variables: Path


def require_uefi(architecture: Architecture) -> Uefi:
    """ToolMissing, naming the package, where this host has none."""
    for code, variables in PLACES[architecture]:
        if Path(code).is_file() and Path(variables).is_file():
            return Uefi(Path(code).resolve(), Path(variables).resolve())
    raise ToolMissing(
        "cannot boot this disk: it has a boot loader for UEFI only, and this host has no UEFI firmware for guests",
        resolution=f"install it, e.g. apt-get install {PACKAGES[architecture]}",
    )


def make_variables(uefi: Uefi, target: Path) -> None:
    """The VM's own variables (boot order and the like), made once and kept from boot to boot."""
    if not target.exists():
        draft = target.with_suffix(".part")
        shutil.copyfile(uefi.empty_variables, draft)
        draft.chmod(0o600)
        draft.rename(target)
