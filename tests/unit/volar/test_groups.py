# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import click
import pytest

from unit.volar.conftest import Volar
from volant.volar.cli import volar as program
from volant.volar.groups import Commands


def find(*words: str) -> click.Command | None:
    command: click.Command | None = program
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    return command


def walk(command: click.Command | None, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Commands]]:
    if not isinstance(command, Commands):
        return []
    context = click.Context(command)
    below = [
        walk(command.get_command(context, name), (*path, name)) for name in command.list_commands(context)
    ]
    return [(path, command), *(found for each in below for found in each)]


GROUPS = walk(program)


@pytest.mark.parametrize(("path", "group"), GROUPS, ids=lambda given: str(given))
def test_every_alias_leads_to_a_command_and_no_word_means_two_things(
    path: tuple[str, ...], group: Commands
) -> None:
    context = click.Context(group)
    own = set(group.list_commands(context))
    for alias in group.aliases:
        assert group.get_command(context, alias) is not None, f"{path}: {alias} leads nowhere"
    assert not own & set(group.aliases), f"{path}: both a command and an alias"
    assert not (own | set(group.aliases)) & set(group.answers), f"{path}: both a command and an answer"


@pytest.mark.parametrize(("path", "group"), GROUPS, ids=lambda given: str(given))
def test_summaries_begin_as_the_commands_help_does(path: tuple[str, ...], group: Commands) -> None:
    for name, lazy in group.lazy.items():
        command = find(*path, name)
        assert command is not None
        assert command.help, f"{path} {name} has no help"
        assert lazy.summary.split()[0].rstrip(",") == command.help.split()[0].rstrip(",")


def test_aliases_are_the_commands_themselves() -> None:
    assert find("ps") is find("vms", "list") is find("vms", "ls")
    assert find("rm") is find("vms", "delete") is find("vms", "rm")
    assert find("vm", "logs") is find("logs")
    assert find("plugins", "rm") is find("rmi")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["lst"], "volar list or volar ls"),
        (["vms", "strat"], "volar vms start"),
        (["plugin", "remvoe"], "remove"),
        (["pull", "nginx"], "fledge build --image IMAGE"),
        (["build", "."], "fledge build"),
        (["vms", "scale", "x"], "volar deployments scale"),
        (["zzzzzz"], "volar --help"),
    ],
)
def test_a_word_that_is_none_is_answered(volar: Volar, words: list[str], answer: str) -> None:
    done = volar(*words)
    assert done.exit_code == 2
    assert answer in done.err
    assert "has no command" in done.err
