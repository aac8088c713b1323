# SPDX-License-Identifier: Apache-2.0
"""Every block of a shell runs in some test, or says why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.typed_pages import ROOT, STAGES, TYPED_ELSEWHERE, read_blocks, split_commands

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[heit]*/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_is_typed_or_says_why_not(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    blocks = list(read_blocks(page))
    unsaid = [text for text, reason in blocks if not reason]
    if name in TYPED_ELSEWHERE:
        assert unsaid or name.endswith("program-in-python.md")
    elif name in STAGES:
        assert any(list(split_commands(text)) for text in unsaid), "nothing of it is typed"
    else:
        assert unsaid == []


def test_the_tests_that_type_pages_are_there() -> None:
    for page, test in TYPED_ELSEWHERE.items():
        text = (ROOT / test).read_text()
        assert any(word in text for word in (Path(page).name, Path(page).parent.name)), (
            f"{test} reads {page}?"
        )
    assert {page for page in STAGES if not (ROOT / page).is_file()} == set()


def test_commands_and_what_they_print_are_told_apart(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not typed: no -->\n```console\n$ a\n```\n\n```console\n$ b \\\n  c\nd\n$ e\n```\n```toml\n```\n"
    )
    (first, why), (second, none) = read_blocks(page)
    assert (why, none) == ("no", "")
    assert list(split_commands(first)) == [("a", [])]
    assert list(split_commands(second)) == [("b    c", ["d"]), ("e", [])]
