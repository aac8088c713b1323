# SPDX-License-Identifier: Apache-2.0
"""Tables for people, and what stands in their cells. Nothing here takes long to load."""

from __future__ import annotations

from datetime import UTC, datetime

from volant.volar.printable import make_printable_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


def make_rows_table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Any], Any]]
) -> list[str]:
    """`columns` maps a heading to a cell's value."""
    return make_table(list(columns), [[format_cell(cell(row)) for cell in columns.values()] for row in rows])


def make_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns padded with spaces: no frames, so that awk and cut can read them."""
    rows = [[make_printable_line(text) for text in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    ]


def format_cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def format_age(stamp: str | None) -> str:
    """How long ago an RFC 3339 time was: 5s, 3m, 2h, 4d."""
    if not stamp:
        return "-"
    return format_duration((datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds())


def format_duration(seconds: float) -> str:
    whole = max(0, int(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}"
    return f"{whole}s"
