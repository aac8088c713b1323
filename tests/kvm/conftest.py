# SPDX-License-Identifier: Apache-2.0
"""One machine with KVM for all of these tests, which run in order on it. Kept few: each command in it is emulated."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from support.kvm_host import PLUGIN, KvmHost
from support.kvm_machines import NO_VERDICT
from support.kvm_session import open_kvm_host


@pytest.fixture(scope="session")
def kvm() -> Iterator[KvmHost]:
    with open_kvm_host() as found:
        yield found


@pytest.fixture(scope="session")
def plugin(kvm: KvmHost) -> str:
    kvm.volar("plugins", "install", PLUGIN)
    return "web"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed after the emulated processor had lost one of its guests says nothing of us."""
    report = yield
    kvm = getattr(item, "funcargs", {}).get("kvm")
    if report.failed and kvm is not None and (lost := kvm.list_lost()):
        pytest.exit("\n".join([report.longreprtext, "no verdict: guests were lost", *lost]), NO_VERDICT)
    return report
