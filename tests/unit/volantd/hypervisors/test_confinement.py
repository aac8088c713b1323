# SPDX-License-Identifier: Apache-2.0
"""What a VM's user is given of the host's devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.volantd.hypervisors.confinement import list_groups


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to groups")
@pytest.mark.parametrize(
    ("mode", "group", "groups"),
    [(0o666, 0, []), (0o660, 107, [107]), (0o660, 0, None), (0o600, 107, None), (0o640, 107, None)],
)
def test_a_vm_is_in_the_devices_group_but_never_in_roots(
    tmp_path: Path, mode: int, group: int, groups: list[int] | None
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    os.chown(device, 0, group)
    device.chmod(mode)
    assert list_groups(device) == groups
