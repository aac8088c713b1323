# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.volar.output import defuse, print_table, show_facts


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
    ],
)
def test_only_colours_reach_the_terminal(said: str, shown: str) -> None:
    assert defuse(said) == shown


def test_what_a_guest_says_of_itself_is_shown_defused(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts([("reason", "\x1b]0;x\x07")])
    print_table(["NAME"], [["\x1bc"]])
    assert "\x1b" not in capsys.readouterr().out
