# SPDX-License-Identifier: Apache-2.0
"""Programs that play QEMU here write down what they did, which a confined one may not: that has a test of its own."""

from __future__ import annotations

import pytest

from volant.volantd.hypervisors import kvm_probe


@pytest.fixture(autouse=True)
def _unconfined_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_probe, "make_probe_command", lambda command, _files: list(command))
