# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.digits import is_whole_number


@pytest.mark.parametrize("text", ["0", "80", "007", "9" * 18])
def test_whole_numbers(text: str) -> None:
    assert is_whole_number(text)
    int(text)


@pytest.mark.parametrize(
    "text", ["", "²", "8²", "٨٠", "８０", "-1", "+80", " 80", "80\n", "8_0", "8.0", "9" * 5000]
)
def test_what_only_looks_like_one(text: str) -> None:
    assert not is_whole_number(text)
