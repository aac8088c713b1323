# SPDX-License-Identifier: Apache-2.0
"""Groups of commands that are imported when asked for, go by the names that fingers know, and answer to the rest."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from volant.errors import UsageError


class Lazy(NamedTuple):
    """A command by its place below volant.volar.commands, with its line of --help."""

    module: str
    attribute: str
    summary: str


class Commands(click.Group):
    """`aliases` are other names of commands, as words from here ("ps": "vms list"); `answers` say what else to type."""

    def __init__(
        self,
        *arguments: Any,
        lazy: Mapping[str, Lazy] | None = None,
        aliases: Mapping[str, str] | None = None,
        answers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.lazy, self.aliases, self.answers = lazy or {}, aliases or {}, answers or {}

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.lazy, *self.commands]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self.aliases:
            command: click.Command | None = self
            for word in self.aliases[name].split():
                command = command.get_command(context, word) if isinstance(command, click.Group) else None
            return command
        if (found := self.lazy.get(name)) is not None:
            module = importlib.import_module(f"volant.volar.commands.{found.module}")
            loaded: click.Command = getattr(module, found.attribute)
            return loaded
        return super().get_command(context, name)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = arguments[0]
        if not context.resilient_parsing and not name.startswith("-") and not self.get_command(context, name):
            raise self.explain(context, name)
        return super().resolve_command(context, arguments)

    def explain(self, context: click.Context, name: str) -> UsageError:
        """What to type in place of a command that there is not."""
        what = f"{context.command_path} has no command {name!r}"
        if name in self.answers:
            return UsageError(what, resolution=self.answers[name])
        import difflib

        known = [*self.list_commands(context), *self.aliases]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        choices = [f"{context.command_path} {match}" for match in near]
        return UsageError(what, resolution=" or ".join(choices) or f"{context.command_path} --help")

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, lazy.summary) for name, lazy in self.lazy.items()]
        rows += [
            (name, command.get_short_help_str(limit=80))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
