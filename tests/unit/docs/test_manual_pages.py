# SPDX-License-Identifier: Apache-2.0
"""The man pages' roff. That they are what the code says is checked with the reference."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import manual_pages  # noqa: E402  scripts are no package

REQUESTS = {".TH", ".SH", ".SS", ".B", ".BR", ".PP", ".TP", ".nf", ".fi", '.\\"'}


def test_text_cannot_become_a_request() -> None:
    assert manual_pages.escape(".SH x\n'y\na-b \\n") == "\\&.SH x\n\\&'y\na\\-b \\en"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "man").iterdir()), ids=lambda page: page.name)
def test_a_page_uses_man_s_own_requests_only(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert {line.split()[0] for line in lines if line.startswith(".")} <= REQUESTS
    headings = [line.removeprefix(".SH ") for line in lines if line.startswith(".SH")]
    assert headings[:3] == ["NAME", "SYNOPSIS", "DESCRIPTION"] and headings[-1] == "SEE ALSO"
    assert lines[lines.index(".SH NAME") + 1].startswith(f"{page.stem} \\- ")  # as apropos(1) reads it


def test_a_page_has_every_command() -> None:
    from volant.fledge.cli import fledge

    page = manual_pages.make_command_page(fledge, "fledge", 1, "")
    context = click.Context(fledge)
    for name in fledge.list_commands(context):
        assert f".SS fledge {name}" in page
