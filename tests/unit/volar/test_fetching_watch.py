# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from volant.volar import fetching_watch
from volant.volar.client import Client
from volant.volar.fetching_watch import describe_fetch, telling_fetches

SOME: dict[str, Any] = {
    "kind": "fetching",
    "data": {"disk": "seed", "done_bytes": 5 << 20, "total_bytes": 10 << 20},
}


class Daemon:
    """Has these events for who follows them, and says when all were taken."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.coming, self.taken = events, threading.Event()

    def events(self, *, vm: str, follow: bool) -> Iterator[dict[str, Any]]:
        yield from self.coming
        self.taken.set()


def test_what_takes_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching_watch, "PATIENCE_SECONDS", 0.0)
    daemon, told = Daemon({"kind": "created", "data": {}}, SOME), list[str]()
    with telling_fetches(cast("Client", daemon), "web", told.append):
        assert daemon.taken.wait(60)
    assert told == ["web: disk seed: fetched 5.0 MiB of 10.0 MiB"]


def test_what_does_not_is_not_asked_for() -> None:
    daemon, told = Daemon(SOME), list[str]()
    with telling_fetches(cast("Client", daemon), "web", told.append):
        pass
    assert (told, daemon.taken.is_set()) == ([], False)


def test_a_size_that_nobody_knows() -> None:
    data = {**SOME["data"], "total_bytes": None}
    assert describe_fetch(cast("Any", {"data": data})) == "disk seed: fetched 5.0 MiB"
