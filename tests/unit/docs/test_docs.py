# SPDX-License-Identifier: Apache-2.0
"""What the documentation says exists: links lead somewhere, commands and their options are real."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from support.documented_commands import PROGRAMS, check_command
from volant.fledge.instructions import KEYWORDS, read_instructions

ROOT = Path(__file__).resolve().parents[3]
KESTREL_CONFIG = ROOT / "contract" / "kestrel-config.schema.json"
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


BLOCK = re.compile(r"^```([a-z]*)(?: [^\n]*)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What other programs read, and what none does: shell commands are checked above, or typed by the tutorials' test.
UNREAD = {"", "console", "sh", "bash", "text", "nginx", "html"}


def read_block(language: str, text: str) -> None:
    """Read a block by what reads such a file; raises what that says."""
    match language:
        case "toml":
            tomllib.loads(text)
        case "yaml":
            document = YAML(typ="safe").load(text)
            if document.keys() & {"exec", "health", "hooks"}:
                jsonschema.validate(document, json.loads(KESTREL_CONFIG.read_text()))
        case "json":
            json.loads(text)
        case "python":
            ast.parse(text)
        case "dockerfile":
            unknown = [line.keyword for line in read_instructions(text) if line.keyword not in KEYWORDS]
            assert not unknown, f"a Dockerfile has no {unknown[0]}"
        case _:
            assert language in UNREAD, f"nobody reads a block of {language}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_are_what_they_say(page: Path) -> None:
    for language, text in BLOCK.findall(page.read_text()):
        read_block(language, text)


def test_each_decision_has_a_number_of_its_own() -> None:
    for page in sorted(ROOT.glob("docs/decisions/[0-9]*.md")):
        number, _, _ = page.name.partition("-")
        assert list(page.parent.glob(f"{number}-*")) == [page]
        heading = page.read_text().partition("\n")[0]
        assert re.match(r"# 0*([0-9]+)[.:] ", heading), heading
        assert int(heading.split()[1].rstrip(".:")) == int(number), heading


def test_blocks_that_are_not_what_they_say_are_found() -> None:
    for language, text in (("toml", "a = b"), ("yaml", "exec: [{nam: web}]"), ("json", "{"), ("cobol", "")):
        with pytest.raises((ValueError, AssertionError, jsonschema.ValidationError)):
            read_block(language, text)


def test_the_check_itself_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_command("volar vms frobnicate")
    with pytest.raises(AssertionError):
        check_command("fledge build --no-such-option")
