# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import sys
from pathlib import Path

import pytest

from support.played_builders import play
from support.remembering_monitor import RememberingMonitor
from volant.errors import ToolFailed
from volant.fledge.builders import running
from volant.fledge.builders.running import run_builder

LOCK = "import fcntl,sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('mine')"


def test_a_builder_whose_storage_is_locked_is_waited_for_with_a_word(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is a real one, held by this process and waited for by a child of the builder, as for users."""
    monkeypatch.setattr(running, "FIRST_WORD_SECONDS", 0.0)
    builder = play(bin_folder, "buildah", f'{sys.executable} -c "{LOCK}" {tmp_path}/lock & wait')
    told: list[str] = []
    with (tmp_path / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)

        class Listener(RememberingMonitor):
            def say(self, line: str) -> None:
                super().say(line)
                lock.close()

        monitor = Listener()
        # Its patience would be over long before the word is said.
        code = run_builder(builder, [builder.program, "info"], told.append, monitor, limit_seconds=60)
    assert (code, told) == (0, ["mine"])
    assert "buildah is busy: process " in monitor.lines[0]
    assert "holds the lock of its storage; waiting" in monitor.lines[0]


def test_a_builder_that_hangs_without_waiting_for_anybody_is_ended(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    builder = play(bin_folder, "buildah", "sleep 60")
    with pytest.raises(ToolFailed, match="'info' had no end after 1 s"):
        run_builder(builder, [builder.program, "info"], monitor.say, monitor, limit_seconds=1)


def test_an_interruption_ends_the_step_and_lets_the_builder_clean_up(
    bin_folder: Path, tmp_path: Path, monitor: RememberingMonitor
) -> None:
    """The builder works in a child that bears its name, as buildah does for users: it is not what is ended."""
    child = f"#!/bin/sh\necho step\nsleep 60\necho cleaned > {tmp_path}/cleaned\n"
    (bin_folder / "real").write_text(child)
    script = f'exec -a buildah-in-a-user-namespace bash -c "$(cat {bin_folder}/real)"'
    builder = play(bin_folder, "buildah", f"bash -c '{script}' & wait")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_builder(builder, [builder.program, "bud"], interrupt, monitor)
    assert (tmp_path / "cleaned").read_text() == "cleaned\n"
