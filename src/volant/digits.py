# SPDX-License-Identifier: Apache-2.0
"""Whole numbers in text that somebody wrote: ports, user ids, positions."""

from __future__ import annotations

MOST_DIGITS = 18


def is_whole_number(text: str) -> bool:
    """Whether `int` takes it for what it looks like.

    `str.isdigit` is true of superscripts, which `int` refuses, and of other scripts' digits, which no other program
    reads; and `int` itself takes signs, blanks and underscores, and refuses what has thousands of digits.
    """
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
