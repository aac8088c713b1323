# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import InvalidInput, NotFound
from volant.volar.compose.env_files import parse_env, read_env_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\nB = two words  \n\n# no\nexport C=3", {"A": "1", "B": "two words", "C": "3"}),
        ("A=x # comment\nB=x#y\nC=#z", {"A": "x", "B": "x#y", "C": ""}),
        ("A='$NO \\n'\nB='it\\'s'", {"A": "$NO \\n", "B": "it's"}),
        ('A="a\\nb\\"c" # said\nB="$A-${OUT}"', {"A": 'a\nb"c', "B": 'a\nb"c-outer'}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ("A=1\nB=$A\nOUT=2\nC=$OUT", {"A": "1", "B": "1", "OUT": "2", "C": "outer"}),
        ("A\nB=", {"A": None, "B": ""}),
        ("A: yaml-like", {"A": "yaml-like"}),
        ('A="\\$5"', {"A": "$5"}),
        ("A=${NONE:-b c}", {"A": "b c"}),
    ],
)
def test_lines_are_read_as_compose_reads_them(text: str, expected: dict[str, str | None]) -> None:
    assert parse_env(text, {"OUT": "outer"}, ".env") == expected


@pytest.mark.parametrize(
    ("text", "place"),
    [("A=1\n=2", ".env:2"), ("A='x", ".env:1"), ('\nA="x" y', ".env:2"), ("A b=1", ".env:1")],
)
def test_a_line_that_is_none_is_named(text: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        parse_env(text, {}, ".env")


def test_files_are_text_and_there(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"A=\xff\xfe")
    (tmp_path / "zero").write_bytes(b"A=\0")
    for name in ("bytes", "zero"):
        with pytest.raises(InvalidInput):
            read_env_file(tmp_path / name, {})
    with pytest.raises(NotFound):
        read_env_file(tmp_path / "none", {})
    (tmp_path / "raw").write_bytes(b"A='$B' # c\r\nC\r\n")
    assert read_env_file(tmp_path / "raw", {}, is_raw=True) == {"A": "'$B' # c", "C": None}
