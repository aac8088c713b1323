# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from volant.client import log_lines
from volant.client.client import Client
from volant.client.log_lines import follow_lines, wait_for_return
from volant.errors import NotFound, Unreachable


def make_line(second: int, text: str) -> bytes:
    line = {"time": f"2026-01-01T00:00:0{second}.000Z", "process": "app", "stream": "stdout", "line": text}
    return json.dumps(line).encode() + b"\n"


class CutClient(Client):
    """Each open gives one of the streams and is cut at its end; the VM runs as long as there are streams."""

    def __init__(self, *streams: list[bytes]) -> None:
        super().__init__("cut")
        self.streams = list(streams)
        self.queries: list[Any] = []

    @contextmanager
    def open(self, method: str, path: str, **options: Any) -> Iterator[Any]:
        self.queries.append(options["query"])
        yield iter(self.streams.pop(0))

    def get_vm(self, name: str) -> Any:
        return {"status": "running" if self.streams else "stopped"}


@pytest.fixture(autouse=True)
def no_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "RETRY_SECONDS", 0)


def test_a_cut_costs_no_line_and_repeats_none() -> None:
    first = [make_line(1, "a"), make_line(2, "b"), make_line(2, "c")]
    second = [make_line(2, "b"), make_line(2, "c"), make_line(2, "d"), make_line(3, "e")]
    client = CutClient(first, second, [make_line(3, "e"), b'{"half a li'])
    lines = [line["line"] for line in follow_lines(client, "web", process="app", tail=10)]
    assert lines == ["a", "b", "c", "d", "e"]
    assert [query.get("tail") for query in client.queries] == [10, None, None]
    assert [query.get("since") for query in client.queries[1:]] == [
        "2026-01-01T00:00:02.000Z", "2026-01-01T00:00:03.000Z",
    ]  # fmt: skip


class AwayClient(Client):
    def __init__(self, *answers: Any) -> None:
        super().__init__("away")
        self.answers = list(answers)

    def get_vm(self, name: str) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"status": answer}


def test_a_daemon_that_is_away_is_waited_for() -> None:
    away = Unreachable("away")
    assert wait_for_return(AwayClient(away, away, "running"), "web")
    assert not wait_for_return(AwayClient(away, "failed"), "web")
    assert not wait_for_return(AwayClient(NotFound("gone")), "web")
    with pytest.raises(Unreachable):
        wait_for_return(AwayClient(away, away), "web", patience_seconds=-1)
