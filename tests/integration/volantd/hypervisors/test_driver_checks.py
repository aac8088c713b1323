# SPDX-License-Identifier: Apache-2.0
"""What every driver owes, of the one for QEMU with the real program; on KVM, and Cloud Hypervisor's, in tests/kvm."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.driver_checks import CHECKS, Check, make_driver
from volant.volantd.boot.kernel import Kernel
from volant.volantd.hypervisors.qemu import Qemu

BUSYBOX = Path("/bin/busybox")


@pytest.fixture(scope="session")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Qemu:
    return Qemu(tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_is_a_driver(check: Check, qemu: Qemu, kernel: Kernel, short_path: Path) -> None:
    await check(await make_driver(qemu, kernel.image, short_path, BUSYBOX))
