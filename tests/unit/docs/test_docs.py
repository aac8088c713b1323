# SPDX-License-Identifier: Apache-2.0
"""What the documentation says exists: links lead somewhere, commands and their options are real."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from volant.fledge.cli import fledge
from volant.volar.cli import volar

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROGRAMS: dict[str, click.Command] = {"fledge": fledge, "volar": volar}


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


def check_command(line: str) -> None:
    words = shlex.split(line)
    command = PROGRAMS[words[0]]
    # With the program's own settings: click keeps the help option that the first context asked for.
    context = click.Context(command, info_name=words[0], **command.context_settings)
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"{line!r}: no command {rest[0]!r}"
        command, rest = found, rest[1:]
        context = click.Context(command, context, info_name=command.name)
    if command.context_settings.get("ignore_unknown_options"):
        return
    known = {
        name
        for parameter in command.get_params(context)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in rest:
        if word.startswith("-") and word != "--":
            assert word.split("=")[0] in known, f"{line!r}: no option {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
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
