# SPDX-License-Identifier: Apache-2.0
"""What the documentation says exists: links lead somewhere, commands and their options are real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.documented_commands import PROGRAMS, check_command

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def find_commands(page: Path) -> Iterator[str]:
    """Lines of fenced blocks that begin with one of our programs, without prompt, comment and redirection."""
    for block in re.findall(
        r"^```(?:console|sh|bash)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"'[^']*'", "QUOTED", line.strip().removeprefix("$ "))
            command = re.split(r"\s+#\s|\s[<>|]\s|\s&&\s", line)[0]
            if command.split(" ")[0] in PROGRAMS:
                yield command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.guide("12-1")
def test_commands_and_links_of_a_page(page: Path) -> None:
    for command in find_commands(page):
        check_command(command)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: link to {target} leads nowhere"


def test_the_check_itself_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_command("volar vms frobnicate")
    with pytest.raises(AssertionError):
        check_command("fledge build --no-such-option")
