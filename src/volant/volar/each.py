# SPDX-License-Identifier: Apache-2.0
"""One verb over several VMs: all at once, one result each, and an exit code that says whether all went well."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import click

from volant.errors import VolantError

AT_ONCE = 8


def do_each(context: click.Context, names: Sequence[str], act: Callable[[str], str]) -> None:
    """Call `act` with each name, and print what it returns in the names' order; a failure keeps no other name waiting.

    Ends the command with the failures' exit code: theirs where they share one, else 1.
    """
    names = list(dict.fromkeys(names))
    if len(names) == 1:
        click.echo(act(names[0]))
        return
    results: list[SimpleQueue[str | BaseException]] = [SimpleQueue() for _ in names]
    waiting = list(range(len(names)))[::-1]

    def work() -> None:
        while True:
            try:
                number = waiting.pop()
            except IndexError:
                return
            try:
                results[number].put(act(names[number]))
            except BaseException as error:
                results[number].put(error)

    # Daemon threads: Ctrl-C ends the command without waiting for what was asked.
    for _ in range(min(AT_ONCE, len(names))):
        threading.Thread(target=work, daemon=True).start()
    codes = set()
    for name, result in zip(names, results, strict=True):
        outcome = result.get()
        if isinstance(outcome, str):
            click.echo(outcome)
        elif isinstance(outcome, VolantError):
            from volant.volar.printable import make_printable

            click.echo(f"error: {name}: {make_printable(str(outcome))}", err=True)
            codes.add(outcome.exit_code)
        else:
            raise outcome
    if codes:
        context.exit(codes.pop() if len(codes) == 1 else 1)
