# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.errors import InvalidInput
from volant.volar.compose.interpolation import MOST_VALUES, Interpolation

VARIABLES = {"SET": "value", "EMPTY": "", "OTHER": "other"}


def fill(text: str) -> str:
    return Interpolation(VARIABLES).fill(text, "services.web.image")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a${SET}b$OTHER.", "avaluebother."),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("$1 costs 5$ and $-", "$1 costs 5$ and $-"),
        ("${SET:-x}${EMPTY:-x}${UNSET:-x}", "valuexx"),
        ("${SET-x}${EMPTY-x}${UNSET-x}", "valuex"),
        ("${SET:+x}${EMPTY:+x}${UNSET:+x}", "x"),
        ("${SET+x}${EMPTY+x}${UNSET+x}", "xx"),
        ("${SET:?no}${EMPTY?no}", "value"),
        ("${UNSET:-${OTHER}}", "other"),
        ("${UNSET:-${NONE:-deep-$SET}}", "deep-value"),
        ("${UNSET-}", ""),
        ("${UNSET:-a:-b}", "a:-b"),
        ("${UNSET:-{}}", "{}"),
        ("${UNSET:-$$}", "$"),
    ],
)
def test_every_operator(text: str, expected: str) -> None:
    assert fill(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${UNSET:?set it}", "set it"),
        ("${EMPTY:?}", "EMPTY is required"),
        ("${UNSET?$OTHER}", "other"),
        ("${SET", "closing brace"),
        ("${}", "no variable"),
        ("${1}", "no variable"),
        ("${SET/a/b}", "no variable"),
        ("${UNSET:-" * 30 + "}" * 30, "levels"),
    ],
)
def test_what_cannot_be_filled_in_names_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=r"services\.web\.image") as caught:
        fill(text)
    assert words in str(caught.value)


def test_an_unknown_name_is_empty_and_told_once() -> None:
    interpolation = Interpolation({})
    assert interpolation.apply({"a": ["$ONE", "${ONE}x", 7, None], "$TWO": True}, "x") == {
        "a": ["", "x", 7, None],
        "$TWO": True,
    }
    assert interpolation.unset == ["ONE"]


def test_a_small_file_that_aliases_blow_up_is_refused() -> None:
    tree: object = "x"
    for _ in range(30):
        tree = [tree, tree]
    with pytest.raises(InvalidInput, match=str(MOST_VALUES)):
        Interpolation({}).apply(tree, "compose.yaml")


@given(st.text())
def test_any_text_is_filled_in_or_refused(text: str) -> None:
    try:
        fill(text)
    except InvalidInput as error:
        assert "services.web.image" in error.what


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_what_has_no_dollar_stays(text: str) -> None:
    assert fill(text) == text
