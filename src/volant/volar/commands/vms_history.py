# SPDX-License-Identifier: Apache-2.0
"""volar vms history."""

from __future__ import annotations

from typing import Any

import click

from volant.volar.client import quoted
from volant.volar.names import vm_argument
from volant.volar.output import Format, output_option, show_document, show_rows
from volant.volar.target import make_client


@click.command()
@vm_argument
@output_option
@click.pass_context
def history(context: click.Context, name: str, output_format: Format) -> None:
    """Show what was changed in a VM, oldest first: by whom, from what to what, and what waits for its next start."""
    changes = make_client(context).get(f"/vms/{quoted(name)}/history")
    if output_format in ("json", "yaml"):
        show_document(changes, output_format)
        return
    rows = [_make_row(change, field) for change in changes for field in change["fields"]]
    columns = {
        column: _read(column) for column in ("TIME", "WHO", "ACTION", "WHAT", "BEFORE", "AFTER", "COUNTS")
    }
    show_rows(rows, output_format, kind="change", columns=columns, wide={"REQUEST": _read("name")})


def _read(column: str) -> Any:
    return lambda row: row[column]


def _make_row(change: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    waits = field["name"].partition(".")[0] in change["pending"]
    return {
        "name": change["request_id"],
        "TIME": change["time"],
        "WHO": change["who"],
        "ACTION": change["action"],
        "WHAT": field["name"],
        "BEFORE": field["before"],
        "AFTER": field["after"],
        "COUNTS": "from the next start" if waits else "now",
    }
