# SPDX-License-Identifier: Apache-2.0
"""Lines are what their readers want: JSON that parses, priorities for the journal, text with the request's id."""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile

import pytest

from volant.volantd.log_format import LogFormat, add_request_id, is_journal, make_formatter
from volant.volantd.request_context import RequestContext, enter_request


def format_line(chosen: LogFormat, message: str = "VM %s: gone", level: int = logging.WARNING) -> str:
    record = logging.LogRecord("volant.x", level, "f.py", 1, message, ("a\nb",), None)
    add_request_id(record)
    return make_formatter(chosen, io.StringIO()).format(record)


def test_json_is_one_line_with_everything_in_it() -> None:
    fields = json.loads(format_line("json"))
    assert fields.pop("time").endswith("Z")
    assert fields == {"level": "warning", "logger": "volant.x", "message": "VM a\nb: gone"}
    assert "\n" not in format_line("json")


async def test_a_line_of_a_request_has_its_id() -> None:
    enter_request(RequestContext("r-1"))
    assert json.loads(format_line("json"))["request_id"] == "r-1"
    assert format_line("text").endswith("WARNING VM a\nb: gone [r-1]")


def test_the_journal_gets_a_priority_for_every_line_and_no_time() -> None:
    assert format_line("journal") == "<4>VM a\n<4>b: gone"
    assert format_line("journal", level=logging.ERROR).startswith("<3>")


def test_an_exception_is_told_in_json_too() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "failed", None, (ValueError, error, error.__traceback__)
        )
    assert "ValueError: bad" in json.loads(make_formatter("json", io.StringIO()).format(record))["exception"]


def test_the_journal_is_known_by_the_stream_that_it_named() -> None:
    with tempfile.TemporaryFile("w") as stream:
        found = os.fstat(stream.fileno())
        named = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream, named)
        assert not is_journal(stream, {"JOURNAL_STREAM": "8:1"})
        assert not is_journal(stream, {})
    assert not is_journal(io.StringIO(), named)


@pytest.mark.parametrize("chosen", ["text", "journal", "json"])
def test_text_that_is_none_breaks_no_line(chosen: LogFormat) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "name \udcff", None, None)
    add_request_id(record)
    make_formatter(chosen, io.StringIO()).format(record).encode("utf-8", "backslashreplace")
