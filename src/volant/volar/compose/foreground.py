# SPDX-License-Identifier: Apache-2.0
"""Lines of several VMs in one terminal, each behind its VM's name."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import click

from volant.client.log_lines import follow_lines, read_lines
from volant.errors import NotFound, VolantError
from volant.volar.client import Client
from volant.volar.printable import make_printable_line
from volant.volar.run_follow import AGENT, format_line

COLORS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


@dataclass(frozen=True, slots=True)
class LineOptions:
    """`tail`: None for all."""

    tail: int | None = None
    since: str | None = None
    has_times: bool = False
    has_prefix: bool = True


def show_lines(client: Client, names: Sequence[str], options: LineOptions, *, follow: bool) -> None:
    """With `follow` until the last VM ends; otherwise one VM after the other."""
    width = max((len(name) for name in names), default=0)
    if not follow:
        for number, name in enumerate(names):
            _show(client, name, number, width, options, follow=False)
        return
    for thread in follow_beside(client, names, options):
        while thread.is_alive():
            thread.join(0.2)  # so that Ctrl-C is heard


def follow_beside(client: Client, names: Sequence[str], options: LineOptions) -> list[threading.Thread]:
    """One thread a VM, each until that has ended."""
    width = max((len(name) for name in names), default=0)
    threads = [
        threading.Thread(
            target=_show, args=(client, name, number, width, options), kwargs={"follow": True}, daemon=True
        )
        for number, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    return threads


def _show(client: Client, name: str, number: int, width: int, options: LineOptions, *, follow: bool) -> None:
    on_terminal = sys.stdout.isatty()
    prefix = click.style(f"{name:<{width}} | ", fg=COLORS[number % len(COLORS)]) if options.has_prefix else ""
    read = follow_lines if follow else read_lines
    try:
        for line in read(client, name, tail=options.tail, since=options.since):
            if line["process"] == AGENT:
                continue
            text = f"{line['time']} {format_line(line)}" if options.has_times else format_line(line)
            click.echo(f"{prefix}{make_printable_line(text) if on_terminal else text}")
    except NotFound:
        return
    except VolantError as error:
        click.echo(f"{name}: its lines cannot be shown: {error.what}", err=True)
