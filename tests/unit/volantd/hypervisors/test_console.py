# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

from volant.volantd.hypervisors.console import read_last_lines, trim_log


def test_last_lines_are_plain_text(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"first\r\n\r\n\x1b[1;32mgreen\x1b[0m\r\n\0\xffodd\r\n")
    assert read_last_lines(log, 2) == ["green", "\N{REPLACEMENT CHARACTER}odd"]
    assert read_last_lines(log, 9)[0] == "first"
    assert read_last_lines(tmp_path / "missing", 5) == []


def test_a_log_is_cut_under_its_writer(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(writer, b"".join(b"line %04d\n" % number for number in range(1000)))
        assert trim_log(log, limit_bytes=20_000) is False
        assert trim_log(log, limit_bytes=5000, kept_bytes=104) is True
        os.write(writer, b"after\n")
    finally:
        os.close(writer)
    # Whole lines only, and the writer goes on at the new end.
    assert log.read_text().splitlines() == [f"line {number:04d}" for number in range(990, 1000)] + ["after"]
    assert trim_log(tmp_path / "missing") is False
