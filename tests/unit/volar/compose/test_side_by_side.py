# SPDX-License-Identifier: Apache-2.0
"""Builds beside each other, with a program that stands for fledge; nothing here waits for a moment."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.host import wait_until
from volant.errors import ToolFailed
from volant.plugin_sources.workplace import Workplace
from volant.volar.compose import side_by_side
from volant.volar.compose.side_by_side import Make, make_side_by_side


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What fledge does: a shell script, whose second argument is what was asked for."""
    program = tmp_path / "fledge"

    def write(text: str) -> None:
        program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{text}\n")
        program.chmod(0o755)

    monkeypatch.setattr(side_by_side, "find_fledge", lambda: str(program))
    monkeypatch.setattr(side_by_side, "MOST_AT_ONCE", 2)
    return write


def call(what: str) -> tuple[str, Make]:
    def make(place: Workplace) -> str:
        place.run_fledge([what])
        assert b"".join(place.read(io.BytesIO(b"12"), 2)) == b"12"
        return f"{what}:1"

    return what, make


def test_two_run_at_once_and_every_line_says_whose_it_is(
    script: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    # Each waits for the other: one after the other they would never end.
    script(
        'echo "line of $2"\ntouch $2\nother=b; [ $2 = b ] && other=a\nuntil [ -e $other ]; do sleep 0.05; done'
    )
    assert make_side_by_side([[call("a")], [call("b")]]) == {"a": "a:1", "b": "b:1"}
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == ["a | line of a", "a | uploading ...", "b | line of b", "b | uploading ..."]


def test_no_more_than_so_many_and_rows_in_their_order(script: Callable[[str], None], tmp_path: Path) -> None:
    script("mkdir run.$2\nls -d run.* | wc -l >> counts\necho $2 >> order\nrmdir run.$2")
    rows = [[call("a1"), call("a2"), call("a3")], [call("b")], [call("c")]]
    assert list(make_side_by_side(rows)) and all(
        int(count) <= 2 for count in (tmp_path / "counts").read_text().split()
    )
    order = (tmp_path / "order").read_text().split()
    assert [name for name in order if name.startswith("a")] == ["a1", "a2", "a3"]
    assert sorted(order) == ["a1", "a2", "a3", "b", "c"]


def test_the_first_that_fails_ends_the_others(script: Callable[[str], None], tmp_path: Path) -> None:
    script(
        '[ $2 = bad ] && { until [ -e pid ]; do sleep 0.05; done; echo "error: no disk"; echo "  full"; exit 8; }\n'
        "trap 'touch cleaned; exit 143' TERM\necho $$ > pid.new; mv pid.new pid\nwhile :; do sleep 0.05; done"
    )
    with pytest.raises(ToolFailed, match="plugin of bad: fledge build ended with exit code 8") as caught:
        make_side_by_side([[call("slow")], [call("bad")], [call("never")]])
    assert caught.value.details == ("error: no disk", "  full")
    assert (tmp_path / "cleaned").exists()
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_ctrl_c_ends_all_of_them(script: Callable[[str], None], tmp_path: Path) -> None:
    script("trap 'exit 143' TERM\necho $$ > pid.$2.new; mv pid.$2.new pid.$2\nwhile :; do sleep 0.05; done")

    def interrupt() -> None:
        wait_until("both", lambda: all((tmp_path / f"pid.{name}").exists() for name in "ab"))
        os.kill(os.getpid(), signal.SIGINT)

    # As in a terminal, also where this runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        make_side_by_side([[call("a")], [call("b")]])
    thread.join()
    assert not any(is_running(int((tmp_path / f"pid.{name}").read_text())) for name in "ab")


def test_one_that_does_not_end_is_killed(
    script: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "END_SECONDS", 0.0)
    script("[ $2 = bad ] && { until [ -e pid ]; do sleep 0.05; done; exit 1; }\n"
           "trap '' TERM\necho $$ > pid.new; mv pid.new pid\nwhile :; do sleep 0.05; done")  # fmt: skip
    with pytest.raises(ToolFailed):
        make_side_by_side([[call("deaf")], [call("bad")]])
    assert not is_running(int((tmp_path / "pid").read_text()))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
