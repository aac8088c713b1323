# SPDX-License-Identifier: Apache-2.0
"""SOURCE_DATE_EPOCH, the date that everything made from one source is to bear (reproducible-builds.org/specs)."""

from __future__ import annotations

import os

from volant.errors import UsageError

VARIABLE = "SOURCE_DATE_EPOCH"


def read_epoch() -> int | None:
    """Seconds since 1970; None where nobody asks for a date. UsageError for what is no such number."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise UsageError(
            f"cannot use {VARIABLE}={text!r}: it is not a number of seconds since 1970",
            resolution=f"unset it, or e.g. {VARIABLE}=$(git log -1 --format=%ct)",
        )
    return int(text)
