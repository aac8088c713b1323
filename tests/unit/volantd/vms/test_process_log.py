# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from volant.contract.agent import LogEntry
from volant.errors import InvalidInput
from volant.volantd.vms.process_log import ProcessLog, read_since


def entry(number: int, process: str = "web", length: int = 1) -> LogEntry:
    time = f"2026-01-01T00:00:{number % 60:02}.000Z"
    return LogEntry(
        cursor=str(number), time=time, process=process, stream="stdout", line=f"{number}" * length
    )


def test_lines_are_found_again_by_process_time_and_number(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "log", 1 << 20)
    log.append("boot", [entry(1), entry(2, "db"), entry(3)])
    again = ProcessLog(tmp_path / "log", 1 << 20)
    assert [line.line for line in again.read()] == ["1", "2", "3"]
    assert [line.line for line in again.read(process="web", tail=1)] == ["3"]
    assert [line.line for line in again.read(since="2026-01-01T00:00:02")] == ["2", "3"]
    assert again.read(tail=0) == []


def test_the_cursor_counts_within_one_boot(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "log", 1 << 20)
    assert log.find_cursor("a") == ""
    log.append("a", [entry(5)])
    assert log.find_cursor("a") == "5"
    assert log.find_cursor("b") == ""


def test_it_stays_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "log", 4096)
    for number in range(1000):
        log.append("a", [entry(number, length=10)])
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 3 * 4096
    assert log.read()[-1].line == "999" * 10
    assert log.find_cursor("a") == "999"


def test_half_a_line_of_a_kill_is_skipped_and_not_glued_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ProcessLog(path, 1 << 20)
    log.append("a", [entry(1), entry(2)])
    path.write_bytes(path.read_bytes()[:-20])
    log.append("a", [entry(3)])
    assert [line.line for line in log.read()] == ["1", "3"]


async def test_a_follower_misses_nothing_across_a_turn_of_the_log(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "log", 4096)
    log.append("a", [entry(0)])
    seen = []

    async def follow() -> None:
        async for line in log.follow():
            seen.append(line.line)
            if line.line == "99":
                return

    task = asyncio.create_task(follow())
    for number in range(1, 100):
        log.append("a", [entry(number)])
        if number % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(task, 10)
    assert seen == [str(number) for number in range(100)]


@pytest.mark.parametrize(
    "since", ["99999999d", "9" * 400 + "s", "٣m", "²s", "1e9d", "-1m", "0001-01-01T00:00:00+23:59", "10m\n"]
)
def test_a_time_that_is_none_is_invalid_input(since: str) -> None:
    with pytest.raises(InvalidInput, match="cannot read the time"):
        read_since(since)


def test_since_is_an_age_or_a_time() -> None:
    assert read_since("2026-01-31T12:00:00+02:00").startswith("2026-01-31T10:00:00")
    assert read_since("10m") > "2020"
    assert read_since("") == ""
    with pytest.raises(InvalidInput, match="yesterday"):
        read_since("yesterday")
