# SPDX-License-Identifier: Apache-2.0
"""The audit log keeps what was done, by whom and with which result; also of a daemon that was killed meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from volant.volantd.audit import AuditEntry, AuditLog


def make_entry(number: int, target: str = "web") -> AuditEntry:
    return AuditEntry(
        time=f"2026-01-01T00:00:{number:02}.000Z",
        request_id=f"r{number}",
        who="uid 0",
        action="vms_stop",
        target=target,
    )


def test_a_change_is_one_entry_with_its_result(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.add("received", make_entry(1))
    log.add("complete", replace(make_entry(1), status=409, error="wrong_state", milliseconds=3))
    assert log.read(10) == [replace(make_entry(1), status=409, error="wrong_state", milliseconds=3)]


def test_one_that_a_kill_cut_off_is_told_without_a_result(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.add("received", make_entry(1))
    log.add("received", make_entry(2))
    log.add("complete", replace(make_entry(2), status=200))
    with (tmp_path / "audit.log").open("a") as stream:
        stream.write('{"stage": "comp')
    after = AuditLog(tmp_path / "audit.log")
    after.add("received", make_entry(3))
    after.add("complete", replace(make_entry(3), status=204))
    assert [(entry.request_id, entry.status) for entry in after.read(10)] == [
        ("r1", 0),
        ("r2", 200),
        ("r3", 204),
    ]


def test_the_newest_are_kept_in_bounded_files_that_are_their_owners_alone(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", file_bytes=2000, kept_files=2)
    for number in range(60):
        log.add("complete", replace(make_entry(number), status=200))
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["audit.log", "audit.log.1", "audit.log.2"]
    assert all(path.stat().st_size <= 2000 and path.stat().st_mode & 0o777 == 0o600 for path in files)
    assert [entry.request_id for entry in log.read(3)] == ["r57", "r58", "r59"]
    assert 5 < len(log.read(1000)) < 60
    assert log.read(0) == []


def test_it_is_read_by_what_was_changed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    for number, target in enumerate(["a", "b", "a"]):
        log.add("complete", replace(make_entry(number, target), status=200))
    assert [entry.request_id for entry in log.read(10, "a")] == ["r0", "r2"]
    assert [entry.request_id for entry in log.read(1, "a")] == ["r2"]


def test_what_cannot_be_written_stops_nobody_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(tmp_path / "gone" / "audit.log")
    log.add("complete", make_entry(1))
    assert "the audit log cannot be written" in caplog.text
    assert log.read(1) == []


def test_a_line_is_bounded_whatever_a_client_called_a_thing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.add("complete", make_entry(1, target="x" * 100_000 + "\n\udcff"))
    assert len((tmp_path / "audit.log").read_bytes()) < 1000
    assert len(log.read(1)[0].target) == 200
