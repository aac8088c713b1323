# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from support.documented_commands import check_command
from volant.volar import docker_words
from volant.volar.cli import volar

# Commands of `docker --help` (28.0), `kubectl --help` and `incus --help` that are about what runs or is built.
DOCKER = (
    "run exec ps build bake pull push images login logout search version info builder buildx compose container context"
    " image manifest network plugin system volume swarm attach commit cp create diff events export history import"
    " inspect kill load logs pause port rename restart rm rmi save start stats stop tag top unpause update wait"
)
KUBECTL = (
    "create get run describe delete logs attach exec port-forward cp apply scale edit events top wait version"
)
INCUS = "launch list shell info start stop restart delete rename snapshot storage console pause resume config"


@pytest.mark.parametrize("word", sorted({*DOCKER.split(), *KUBECTL.split(), *INCUS.split()}))
def test_every_verb_that_fingers_know_is_a_command_or_is_answered(word: str) -> None:
    known = volar.get_command(click.Context(volar), word) is not None
    assert known or word in docker_words.TOP_ANSWERS


def find_answers() -> Iterator[str]:
    for table in (docker_words.TOP_ANSWERS, docker_words.VM_ANSWERS, docker_words.PLUGIN_ANSWERS):
        yield from table.values()


@pytest.mark.parametrize("answer", sorted(set(find_answers())))
def test_what_an_answer_says_to_type_exists(answer: str) -> None:
    for line in re.findall(r"\b(?:volar|fledge) [a-z][^,;|()>]*", answer):
        words = line.replace("…", "").split()
        check_command(" ".join(words))
