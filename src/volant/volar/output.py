# SPDX-License-Identifier: Apache-2.0
"""How results are shown: a table for people; JSON, YAML or names for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import click

from volant.sizes import show_size
from volant.volar.printable import is_printable, make_printable, make_printable_json
from volant.volar.tables import format_cell, make_rows_table, make_table

Format = Literal["table", "wide", "json", "yaml", "name"]
FORMATS = ("table", "wide", "json", "yaml", "name")
Row = Mapping[str, Any]
Command = TypeVar("Command", bound=Callable[..., Any])


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
            click.echo(f"{kind}/{make_name(row)}")
    else:
        shown = {**columns, **(wide or {})} if output_format == "wide" else columns
        for line in make_rows_table(rows, shown):
            click.echo(line)


def make_name(row: Row) -> str:
    """What other commands take for this very thing: of a plugin there may be several versions."""
    return f"{row['name']}:{row['version']}" if "version" in row else str(row["name"])


def show_document(document: Any, output_format: Format) -> None:
    """One object as JSON or YAML. What a guest wrote is in it, so neither holds what a terminal might obey."""
    if output_format == "yaml":
        click.echo(make_yaml(document), nl=False)
    else:
        click.echo(make_printable_json(json.dumps(document, indent=2, ensure_ascii=False)))


def make_yaml(document: Any) -> str:
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    stream = io.StringIO()
    yaml.dump(document, stream)
    if not is_printable(stream.getvalue()):
        yaml.allow_unicode = False
        stream = io.StringIO()
        yaml.dump(document, stream)
    return stream.getvalue()


def show_object(document: Any, output_format: Format, facts: Callable[[], Sequence[tuple[str, Any]]]) -> None:
    """One object: as JSON or YAML for programs, else as `facts` for people."""
    if output_format in ("json", "yaml"):
        show_document(document, output_format)
    else:
        show_facts(facts())


def show_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """One object for people: a fact a line, empty ones left out."""
    facts = [
        (name, make_printable(format_cell(value))) for name, value in facts if value not in (None, "", [], {})
    ]
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name + ':':<{width + 1}}  {first}")
        for line in rest:
            click.echo(f"{'':<{width + 1}}  {line}")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for line in make_table(headings, rows):
        click.echo(line)


def format_size(count: int | None) -> str:
    return "-" if count is None else show_size(count)
