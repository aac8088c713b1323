# SPDX-License-Identifier: Apache-2.0
"""Guests that run virtual machines of their own: whether this host can give them a processor for it."""

from __future__ import annotations

from pathlib import Path

from volant.errors import Conflict
from volant.volantd.hypervisors.base import VmSpec

# KVM's own modules say whether they serve guests that are hosts (Documentation/virt/kvm/x86/nested-vmx.rst).
PARAMETERS = {
    "kvm_intel": Path("/sys/module/kvm_intel/parameters/nested"),
    "kvm_amd": Path("/sys/module/kvm_amd/parameters/nested"),
}


def check_nested(spec: VmSpec) -> None:
    """Conflict where a VM that is to run VMs cannot be given what it needs for it."""
    if not spec.nested:
        return
    if spec.architecture != "amd64":
        raise _refuse(
            spec, f"guests of {spec.architecture} have no virtualization", "create it without --nested"
        )
    if spec.accelerator == "tcg":
        return  # an emulated AMD processor has it
    for module, path in PARAMETERS.items():
        if path.exists():
            if path.read_text().strip() in ("1", "Y", "y"):
                return
            again = f"with no VM running: sudo modprobe -r {module} && sudo modprobe {module} nested=1"
            raise _refuse(spec, f"this host's {module} keeps virtualization from its guests", again)
    raise _refuse(
        spec, "this host's KVM does not say that its guests may have it", "create it without --nested"
    )


def _refuse(spec: VmSpec, reason: str, resolution: str) -> Conflict:
    return Conflict(f"cannot let {spec.name} run VMs of its own: {reason}", resolution=resolution)
