# SPDX-License-Identifier: Apache-2.0
"""How results are shown: a table for people; JSON, YAML or names for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import click

Format = Literal["table", "wide", "json", "yaml", "name"]
FORMATS = ("table", "wide", "json", "yaml", "name")
Row = Mapping[str, Any]
Command = TypeVar("Command", bound=Callable[..., Any])


_COLOUR_OR_CONTROL = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def defuse(text: str) -> str:
    """What a guest wrote, for a terminal: colours stay, other control characters are spelled out.

    A guest is not trusted, and a terminal obeys what is written to it (titles, clipboards, answers typed back).
    """
    return _COLOUR_OR_CONTROL.sub(lambda found: found[1] or ascii(found[0])[1:-1], text)


def output_option(command: Command) -> Command:
    """The -o/--output option, the same on every command that shows something."""
    option = click.option(
        "-o",
        "--output",
        "output_format",
        type=click.Choice(FORMATS),
        default="table",
        help="How to show the result.",
    )
    decorated: Command = option(command)
    return decorated


def show_rows(
    rows: Sequence[Row],
    output_format: Format,
    *,
    kind: str,
    columns: Mapping[str, Callable[[Row], Any]],
    wide: Mapping[str, Callable[[Row], Any]] | None = None,
) -> None:
    """Show a list. `columns` maps a heading to a cell's value; `wide` has those that only `wide` adds."""
    if output_format in ("json", "yaml"):
        show_document(list(rows), output_format)
    elif output_format == "name":
        for row in rows:
            click.echo(f"{kind}/{row['name']}")
    else:
        shown = {**columns, **(wide or {})} if output_format == "wide" else columns
        print_table(list(shown), [[format_cell(cell(row)) for cell in shown.values()] for row in rows])


def show_document(document: Any, output_format: Format) -> None:
    """One object as JSON or YAML."""
    if output_format == "yaml":
        import sys

        from ruamel.yaml import YAML

        YAML(typ="safe", pure=True).dump(document, sys.stdout)
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def show_object(document: Any, output_format: Format, facts: Callable[[], Sequence[tuple[str, Any]]]) -> None:
    """One object: as JSON or YAML for programs, else as `facts` for people."""
    if output_format in ("json", "yaml"):
        show_document(document, output_format)
    else:
        show_facts(facts())


def show_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """One object for people: a fact a line, empty ones left out."""
    facts = [(name, defuse(format_cell(value))) for name, value in facts if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name + ':':<{width + 1}}  {first}")
        for line in rest:
            click.echo(f"{'':<{width + 1}}  {line}")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns padded with spaces: no frames, so that awk and cut can read them."""
    rows = [[defuse(text) for text in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def format_cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def format_size(count: int | None) -> str:
    """Bytes in binary units: 512 B, 76.0 MiB."""
    if count is None:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_age(stamp: str | None) -> str:
    """How long ago an RFC 3339 time was: 5s, 3m, 2h, 4d."""
    if not stamp:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
