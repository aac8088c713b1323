# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from volant.volar.printable import is_printable, make_printable, make_printable_json, make_printable_line


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain, tab\there, two\nlines, Käse", "plain, tab\there, two\nlines, Käse"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b]52;c;ZXZpbA==\x1b\\", r"\x1b]52;c;ZXZpbA==\x1b" + "\\"),
        ("\x1b[6n\x1b[2J", r"\x1b[6n\x1b[2J"),
        ("over\rwritten\x08", r"over\rwritten\x08"),
        ("\x9b31m", r"\x9b31m"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("\u2066isolated\u2069\u200f\u061c", r"\u2066isolated\u2069\u200f\u061c"),
        ("two\u2028lines", r"two\u2028lines"),
        ("שלום, مرحبا", "שלום, مرحبا"),
    ],
)
def test_only_text_and_colours_reach_the_terminal(said: str, shown: str) -> None:
    assert make_printable(said) == shown


def test_a_line_stays_one_line() -> None:
    assert make_printable_line("a\n[kestrel] forged") == r"a\n[kestrel] forged"


@given(some.text())
def test_json_means_the_same_and_obeys_nobody(text: str) -> None:
    document = make_printable_json(json.dumps([text], ensure_ascii=False))
    assert json.loads(document) == [text]
    assert is_printable(document)


@given(some.text())
def test_what_is_made_printable_has_no_control_but_colours(text: str) -> None:
    shown = make_printable(text).replace("\x1b", "")
    assert is_printable(shown)
