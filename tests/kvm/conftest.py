# SPDX-License-Identifier: Apache-2.0
"""One machine with KVM for all of these tests, which run in order on it. Kept few: each command in it is emulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.kvm_host import PLUGIN, KvmHost
from support.kvm_session import open_kvm_host


@pytest.fixture(scope="session")
def kvm() -> Iterator[KvmHost]:
    with open_kvm_host() as found:
        yield found


@pytest.fixture(scope="session")
def plugin(kvm: KvmHost) -> str:
    kvm.volar("plugins", "install", PLUGIN)
    return "web"
