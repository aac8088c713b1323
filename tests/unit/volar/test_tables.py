# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from volant.volar.tables import format_age, format_duration, make_table


def test_tables_are_columns_of_spaces() -> None:
    assert make_table(["A", "LONG"], [["wide one", "1"], ["x", ""]]) == ["A         LONG", "wide one  1", "x"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-3, "0s"), (59.9, "59s"), (60, "1m"), (7200, "2h"), (3 * 86400, "3d")]
)
def test_durations_have_one_unit(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
    assert format_age((datetime.now(UTC) - timedelta(seconds=seconds + 0.01)).isoformat()) == shown
