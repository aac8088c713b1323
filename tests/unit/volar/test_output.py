# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from volant.volar.output import (
    format_size,
    show_document,
    show_facts,
    show_rows,
)

EVIL = "\x9b31m\u202etxt"


def test_what_a_guest_says_of_itself_is_shown_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts([("reason", "\x1b]0;x\x07" + EVIL)])
    show_rows(
        [{"name": "a", "line": "\x1bc\nforged"}],
        "table",
        kind="vm",
        columns={"LINE": lambda row: row["line"]},
    )
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x9b\u202e")
    assert r"\x1bc\nforged" in shown


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_documents_mean_the_same_and_hold_nothing_that_a_terminal_obeys(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"reason": EVIL, "town": "Köln", "count": 3, "none": None}
    show_document(document, kind)  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert not set(shown) & set(EVIL[0] + EVIL[4])
    assert (json.loads(shown) if kind == "json" else YAML(typ="safe", pure=True).load(shown)) == document


def test_names_are_what_other_commands_take(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows([{"name": "db"}], "name", kind="vm", columns={})
    show_rows([{"name": "web", "version": "1.0.0"}], "name", kind="plugin", columns={})
    assert capsys.readouterr().out == "vm/db\nplugin/web:1.0.0\n"


@pytest.mark.parametrize(
    ("size", "shown"), [(None, "-"), (0, "0 B"), (1536, "1.5 KiB"), (3 << 40, "3.0 TiB")]
)
def test_sizes_are_binary(size: int | None, shown: str) -> None:
    assert format_size(size) == shown
