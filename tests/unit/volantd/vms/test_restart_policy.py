# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.volantd.vms.restart_policy import LONGEST_DELAY_SECONDS, find_delay_seconds, read_policy


@pytest.mark.parametrize(
    ("text", "after_failure", "after_power_off"),
    [
        ("no", False, False),
        ("on-failure", True, False),
        ("always", True, True),
        ("unless-stopped", True, True),
    ],
)
def test_what_each_policy_restarts(text: str, after_failure: bool, after_power_off: bool) -> None:
    policy = read_policy(text)
    assert policy.wants(is_failure=True, restarts=1000) is after_failure
    assert policy.wants(is_failure=False, restarts=0) is after_power_off


def test_a_limit_counts_restarts_in_a_row() -> None:
    policy = read_policy("on-failure:2")
    assert [policy.wants(is_failure=True, restarts=count) for count in range(4)] == [True, True, False, False]


def test_each_restart_waits_longer_up_to_a_minute() -> None:
    delays = [find_delay_seconds(count) for count in range(10)]
    assert delays == sorted(delays)
    assert delays[0] < delays[1]
    assert delays[-1] == find_delay_seconds(10**6) == LONGEST_DELAY_SECONDS
