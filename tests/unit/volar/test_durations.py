# SPDX-License-Identifier: Apache-2.0
"""Lengths of time mean what they say, and nonsense is named."""

from __future__ import annotations

import click
import pytest

from volant.volar.durations import DURATION


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("30d", 2_592_000), ("4w", 2_419_200)],
)
def test_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert DURATION.convert(text, None, None) == seconds


def test_never_has_no_seconds() -> None:
    assert DURATION.convert("never", None, None) is None


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5h", "30 d", "٣d", "1d\n", "9999999999s", "1y"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a length of time"):
        DURATION.convert(text, None, None)
