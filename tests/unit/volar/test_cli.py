# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import click
import pytest

from unit.volar.conftest import Volar
from volant.errors import GuestFailed
from volant.volar import cli
from volant.volar.client import Client


@pytest.mark.parametrize(
    ("raised", "exit_code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.UsageError("no such thing"), 2, "no such thing"),
        (
            GuestFailed("it \x1b]0;x\x07 failed", resolution="look"),
            10,
            "error: it \\x1b]0;x\\x07 failed\ntry: look",
        ),
    ],
)
def test_every_end_is_an_exit_code_and_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    exit_code: int,
    said: str,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise raised

    monkeypatch.setattr(cli.volar, "main", fail)
    assert cli.run([]) == exit_code
    assert said in capsys.readouterr().err


def test_help_names_each_command_once_and_the_short_forms(volar: Volar) -> None:
    done = volar("--help")
    assert done.exit_code == 0
    for name in cli.COMMANDS:
        assert f"\n  {name} " in done.out
    assert "Short forms: ps, create" in done.out
    assert volar().exit_code in (0, 2)


def test_a_daemon_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ps"], Client("/nowhere/volantd.sock")) == 11
    assert "cannot reach volantd at /nowhere" in capsys.readouterr().err
