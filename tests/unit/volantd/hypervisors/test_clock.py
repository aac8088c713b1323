# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform

import pytest

from volant.volantd.hypervisors.clock import measure_tsc_khz


def test_the_rate_is_plausible_where_there_is_a_counter() -> None:
    rate = measure_tsc_khz(0.01)
    if platform.machine() != "x86_64":
        assert rate is None
    else:
        assert rate is not None
        assert 100_000 < rate < 10_000_000


def test_other_hosts_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert measure_tsc_khz() is None
