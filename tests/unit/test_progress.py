# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json

import pytest

from volant.errors import InvalidInput
from volant.progress import JsonMonitor, PlainMonitor


def test_the_plain_form_tells_steps_and_how_far_a_long_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("volant.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with PlainMonitor(stream) as monitor:
        monitor.step("merge layers")
        monitor.step("write disk", 400)
        for _ in range(4):
            clock[0] += 3
            monitor.advance(100)
    assert stream.getvalue().splitlines() == [
        "merge layers ...", "merge layers: done (0.0 s)", "write disk ...", "write disk: 50 %", "write disk: 100 %",
        "write disk: done (12.0 s)",
    ]  # fmt: skip


def test_the_json_form_ends_with_the_outcome() -> None:
    stream = io.StringIO()
    with pytest.raises(InvalidInput), JsonMonitor(stream) as monitor:
        monitor.step("write disk", 10)
        monitor.advance(10)
        raise InvalidInput("cannot read it")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["step", "advance", "end"]
    assert (events[1]["done"], events[1]["total"]) == (10, 10)
    assert (events[2]["ok"], events[2]["error"]) == (False, "cannot read it")
