# SPDX-License-Identifier: Apache-2.0
"""What volar's tests share: the daemon in this process, and volar's own entry point joined to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from support.in_process_daemon import InProcessDaemon, start_in_process
from volant.volar.cli import run


@dataclass(frozen=True)
class Done:
    exit_code: int
    out: str
    err: str


class Volar(Protocol):
    def __call__(self, *arguments: str) -> Done: ...


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as daemon:
        yield daemon


@pytest.fixture
def volar(daemon: InProcessDaemon, capsys: pytest.CaptureFixture[str]) -> Volar:
    """Run volar with these arguments, as its entry point does."""

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        exit_code = run(list(arguments), daemon.client)
        captured = capsys.readouterr()
        return Done(exit_code, captured.out, captured.err)

    return call
