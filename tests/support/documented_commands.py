# SPDX-License-Identifier: Apache-2.0
"""Whether a command as a document gives it exists, with its options."""

from __future__ import annotations

import re
import shlex

import click

from volant.fledge.cli import fledge
from volant.volar.cli import volar

PROGRAMS: dict[str, click.Command] = {"fledge": fledge, "volar": volar}


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
        if word.startswith("-") and word not in ("-", "--"):
            # -it is -i and -t.
            letters = {f"-{letter}" for letter in word[1:]} if re.fullmatch(r"-[a-z]{2,3}", word) else set()
            assert word.split("=")[0] in known or (letters and letters <= known), (
                f"{line!r}: no option {word}"
            )
