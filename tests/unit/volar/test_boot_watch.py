# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from volant.errors import GuestFailed
from volant.volar import boot_watch
from volant.volar.boot_watch import Observer, is_settled, wait_for_workload
from volant.volar.client import Client


def make_vm(**changes: Any) -> Any:
    return {
        "name": "web", "status": "running", "status_reason": "", "health": "starting", "health_reason": "",
        "checks": [], "processes": [], "agent": {"connected": True}, "exit_code": None, "last_console_lines": [],
        "started_at": "2026-01-01T00:00:00.000Z", **changes,
    }  # fmt: skip


def make_process(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "app",
        "state": state,
        "exit_code": None,
        "signal": None,
        "restarts": 0,
        "reason": "",
        **changes,
    }


def make_check(reason: str, *, failures: int = 1, kind: str = "tcp") -> dict[str, Any]:
    return {"name": "port", "kind": kind, "state": "starting", "reason": reason, "failures": failures}


CRASHED = make_process("backoff", exit_code=3, restarts=1)
ELSEWHERE = make_check("nothing listens on port 80, but port 8080 is open")


def test_a_crash_is_told_at_the_first_one_and_once() -> None:
    observer = Observer()
    assert observer.observe(make_vm(processes=[make_process("starting")])) == ["starting app"]
    crashed = make_vm(processes=[CRASHED])
    assert observer.observe(crashed) == ["app ended with exit code 3; it is started again"]
    assert observer.observe(crashed) == []
    killed = make_vm(processes=[make_process("backoff", signal="SIGSEGV", restarts=2)])
    assert observer.observe(killed) == ["app was ended by SIGSEGV; it is started again"]


def test_a_wrong_port_is_told_at_once_a_refused_one_when_it_stays_so() -> None:
    observer = Observer()
    observer.observe(make_vm())
    refused = "nothing listens on port 80 (connection refused)"
    assert observer.observe(make_vm(checks=[make_check(refused)])) == []
    assert observer.observe(make_vm(checks=[make_check(refused, failures=30)])) == [
        f"check port fails: {refused}"
    ]
    assert observer.observe(make_vm(checks=[ELSEWHERE])) == [f"check port fails: {ELSEWHERE['reason']}"]
    assert observer.observe(make_vm(checks=[make_check("no server running", kind="exec")])) == []


def test_a_process_that_crashes_is_not_up() -> None:
    assert not is_settled(make_vm(health="unknown", processes=[CRASHED]))
    assert is_settled(make_vm(health="unknown", processes=[make_process("running")]))
    assert is_settled(make_vm(health="unknown", processes=[make_process("exited", exit_code=0)]))


class ScriptedClient(Client):
    """Answers with one VM after the other, then with the last for ever."""

    def __init__(self, *looks: Any) -> None:
        super().__init__("scripted")
        self.looks: Iterator[Any] = iter(looks)
        self.last: Any = None

    def get_vm(self, name: str) -> Any:
        self.last = next(self.looks, self.last)
        return self.last


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of the log."""
    queries: list[dict[str, Any]] = []

    def read(client: Client, name: str, **query: Any) -> list[dict[str, str]]:
        queries.append(query)
        return [{"process": "app", "line": "cannot open /etc/app.conf"}]

    monkeypatch.setattr(boot_watch, "read_lines", read)
    monkeypatch.setattr(boot_watch, "POLL_SECONDS", 0)
    return queries


def test_waiting_goes_on_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = make_vm(health="healthy", processes=[make_process("running")])
    client = ScriptedClient(make_vm(status="starting"), make_vm(processes=[CRASHED]), healthy)
    assert wait_for_workload(client, "web", 60) is healthy
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "web: starting", "web: starting app", "web: app ended with exit code 3; it is started again",
        "web: running, healthy",
    ]  # fmt: skip


def test_a_failure_shows_lines_of_this_boot_only(asked: list[dict[str, Any]]) -> None:
    failed = make_vm(health="unhealthy", health_reason="app failed", processes=[make_process("failed")])
    with pytest.raises(GuestFailed, match="not healthy: app failed") as raised:
        wait_for_workload(ScriptedClient(failed), "web", 60)
    assert raised.value.details == ("[app] cannot open /etc/app.conf",)
    assert [query["since"] for query in asked] == ["2026-01-01T00:00:00.000Z"]


def test_what_a_guest_says_is_told_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    evil = make_check("HTTP 500 \x1b]0;x\x07\nforged", kind="http")
    wait_for_workload(ScriptedClient(make_vm(checks=[evil]), make_vm(health="healthy")), "web", 60)
    assert r"HTTP 500 \x1b]0;x\x07\nforged" in capsys.readouterr().err


def test_a_batch_that_ends_badly_is_an_error(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(GuestFailed, match="exit code 4"):
        wait_for_workload(ScriptedClient(make_vm(status="stopped", exit_code=4)), "web", 60)
    done = make_vm(status="stopped", exit_code=0)
    assert wait_for_workload(ScriptedClient(done), "web", 60) is done


def test_time_runs_out_with_the_reason(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(GuestFailed, match="still starting after 0 s"):
        wait_for_workload(ScriptedClient(make_vm()), "web", 0, quiet=True)
