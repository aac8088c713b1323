# SPDX-License-Identifier: Apache-2.0
"""Guests that are hosts: given what they need, or refused with the host's own cure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from volant.errors import Conflict
from volant.volantd.hypervisors import nested
from volant.volantd.hypervisors.base import VmSpec
from volant.volantd.hypervisors.nested import check_nested

SPEC = VmSpec(
    id="1f", name="runner", architecture="amd64", machine="q35", accelerator="kvm", vcpu=1, memory_mb=256, disks=(),
    nics=(), socket_folder=Path("/vm"), console_log=Path("/vm/log"), hypervisor_log=Path("/vm/log"), nested=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("module", "value", "cure"),
    [
        ("kvm_intel", "Y\n", None),
        ("kvm_amd", "1\n", None),
        ("kvm_intel", "N\n", "sudo modprobe kvm_intel nested=1"),
        ("kvm_amd", "0\n", "sudo modprobe kvm_amd nested=1"),
        ("", "", "without --nested"),
    ],
)
def test_the_hosts_module_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, value: str, cure: str | None
) -> None:
    monkeypatch.setattr(nested, "PARAMETERS", {name: tmp_path / name for name in ("kvm_intel", "kvm_amd")})
    if module:
        (tmp_path / module).write_text(value)
    if cure is None:
        check_nested(SPEC)
    else:
        with pytest.raises(Conflict, match="cannot let runner run VMs of its own") as caught:
            check_nested(SPEC)
        assert cure in caught.value.resolution
    check_nested(dataclasses.replace(SPEC, nested=False))


def test_an_emulated_processor_has_it_where_it_is_amds() -> None:
    check_nested(dataclasses.replace(SPEC, accelerator="tcg"))
    with pytest.raises(Conflict, match="guests of arm64"):
        check_nested(dataclasses.replace(SPEC, accelerator="tcg", architecture="arm64"))
