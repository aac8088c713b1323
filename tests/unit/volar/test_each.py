# SPDX-License-Identifier: Apache-2.0
"""Each name has one result, in order; a failure stops no other, and the exit code tells."""

from __future__ import annotations

import threading

import click
import pytest

from volant.errors import Conflict, NotFound, WrongState
from volant.volar.each import AT_ONCE, do_each

ERRORS = {
    "gone": NotFound("cannot find VM gone"),
    "idle": WrongState("it is stopped"),
    "used": Conflict("in use"),
}


def act(name: str) -> str:
    if name in ERRORS:
        raise ERRORS[name]
    return f"stopped {name}"


def run(*names: str) -> int:
    try:
        do_each(click.Context(click.Command("stop")), names, act)
    except click.exceptions.Exit as error:
        return error.exit_code
    return 0


def test_every_name_has_its_result_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a", "gone", "b", "a", "c") == 4
    said = capsys.readouterr()
    assert said.out == "stopped a\nstopped b\nstopped c\n"
    assert said.err == "error: gone: cannot find VM gone\n"


def test_the_exit_code_is_that_of_the_failures_where_they_share_one() -> None:
    assert run("a", "b") == 0
    assert run("idle", "used", "a") == 5
    assert run("idle", "gone") == 1
    with pytest.raises(NotFound):
        run("gone")


def test_what_takes_long_keeps_no_other_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    together = threading.Barrier(AT_ONCE, timeout=30)

    def meet(name: str) -> str:
        together.wait()
        return name

    do_each(click.Context(click.Command("stop")), [f"vm-{number}" for number in range(AT_ONCE * 2)], meet)
    assert capsys.readouterr().out.split() == [f"vm-{number}" for number in range(AT_ONCE * 2)]


def test_a_fault_of_ours_is_not_hidden() -> None:
    def fail(name: str) -> str:
        raise RuntimeError(name)

    with pytest.raises(RuntimeError, match="a"):
        do_each(click.Context(click.Command("stop")), ["a", "b"], fail)
