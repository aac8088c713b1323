# SPDX-License-Identifier: Apache-2.0
"""Text that a guest wrote, made safe for a terminal.

A guest is not trusted, and a terminal obeys what is written to it: titles, clipboards, answers typed back, and marks
that turn the reading direction, so that a line shows other words than it holds.
"""

from __future__ import annotations

import re

_COLOUR = r"\x1b\[[0-9;]*m"
# C0 without tab and newline, DEL and C1; line and paragraph separators; marks of direction; the byte order mark.
_DANGEROUS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
_COLOUR_OR_DANGEROUS = re.compile(f"({_COLOUR})|[{_DANGEROUS}]")
_ONLY_DANGEROUS = re.compile(f"[{_DANGEROUS}]")


def make_printable(text: str) -> str:
    """Lines for people: colours stay, other control characters and marks of direction are spelled out."""
    return _COLOUR_OR_DANGEROUS.sub(lambda found: found[1] or spell(found[0]), text)


def make_printable_line(text: str) -> str:
    """One line for people: a line break inside is spelled out too, so that nothing can pass for a line of ours."""
    return make_printable(text).replace("\n", "\\n")


def make_printable_json(text: str) -> str:
    """JSON that means the same: what a terminal might obey is written as JSON's own escapes."""
    return _ONLY_DANGEROUS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_printable(text: str) -> bool:
    return _ONLY_DANGEROUS.search(text) is None


def spell(character: str) -> str:
    return ascii(character)[1:-1]
