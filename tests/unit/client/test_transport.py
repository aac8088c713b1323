# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import importlib
import pkgutil
import socket

import pytest

import volant
from support.in_process_daemon import InProcessDaemon
from volant import errors
from volant.client import transport
from volant.client.client import Client
from volant.client.transport import ERRORS, Transport, encode_query, read_error


def test_every_error_class_is_one_that_the_client_knows() -> None:
    for module in pkgutil.walk_packages(volant.__path__, "volant."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    waiting, found = [errors.VolantError], set()
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    assert {kind.__module__ for kind in found} == {"volant.errors"}
    assert set(ERRORS.values()) == found
    assert len({kind.code for kind in found}) == len(found), "two classes share a code"


def test_a_call_in_the_wrong_state_keeps_its_exit_code(daemon: InProcessDaemon) -> None:
    daemon.install("state")
    daemon.client.post("/vms", {"name": "idle", "plugin": "state", "start": False})
    with pytest.raises(errors.WrongState) as raised:
        daemon.client.post("/vms/idle/stop")
    assert raised.value.exit_code == 5


def test_lists_are_followed_to_their_end(daemon: InProcessDaemon) -> None:
    daemon.install("many")
    names = [f"many-{number}" for number in range(7)]
    for name in names:
        daemon.client.post("/vms", {"name": name, "plugin": "many", "start": False})
    pages = daemon.client.get_all("/vms", plugin="many", limit=3)
    assert [vm["name"] for vm in pages] == names
    assert [vm["name"] for vm in daemon.client.list_vms(plugin="many")] == names


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, ""),
        ({"label": ["a=1", "b=2"], "status": None}, "?label=a%3D1&label=b%3D2"),
        ({"follow": True, "force": False, "plugin": ""}, "?follow=true"),
        ({"tail": 0}, "?tail=0"),
    ],
)
def test_queries_repeat_lists_and_keep_zero(query: dict[str, object], text: str) -> None:
    assert encode_query(query) == text


def test_labels_given_twice_must_both_match(daemon: InProcessDaemon) -> None:
    daemon.install("labelled")
    for name, labels in (("both", {"tier": "db", "stage": "test"}), ("one", {"tier": "db"})):
        daemon.client.post("/vms", {"name": name, "plugin": "labelled", "start": False, "labels": labels})
    assert [vm["name"] for vm in daemon.client.list_vms(label=["tier=db"])] == ["both", "one"]
    assert [vm["name"] for vm in daemon.client.list_vms(label=["tier=db", "stage=test"])] == ["both"]


def test_an_answer_that_is_no_error_of_ours_is_shown() -> None:
    assert "HTTP 502" in str(read_error(502, b"<html>bad gateway</html>"))
    assert isinstance(read_error(409, b'{"error": "x", "code": "wrong_state"}'), errors.WrongState)


def test_a_daemon_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(errors.Unreachable, match="cannot reach volantd at /nowhere"):
        Client("/nowhere/volantd.sock").get("/vms")


@pytest.mark.parametrize("token", ["a\nb", "a\r", "é", "a\0"])
def test_a_token_that_is_none_is_told_and_not_shown(token: str) -> None:
    with pytest.raises(errors.UsageError, match="cannot use the token") as caught:
        Client("http://127.0.0.1:1", token).call("GET", "/vms")
    assert token not in str(caught.value)


def test_a_name_that_is_no_text_is_told() -> None:
    with pytest.raises(errors.InvalidInput, match="it is not UTF-8"):
        Client("/nonexistent").get_vm("\udcff")


class DyingDaemon:
    """Ends while it is asked for the first time, and answers from then on."""

    def __init__(self) -> None:
        self.asked = 0

    def connect(self, timeout_seconds: float | None) -> http.client.HTTPConnection:
        ours, theirs = socket.socketpair()
        self.asked += 1
        if self.asked > 1:
            theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        theirs.shutdown(socket.SHUT_WR)
        connection = http.client.HTTPConnection("localhost", timeout=timeout_seconds)
        connection.sock = ours
        self.theirs = theirs
        return connection


def test_what_only_reads_is_asked_again_when_the_daemon_ends_meanwhile() -> None:
    for read in (Transport.get, Transport.get_all):
        daemon = DyingDaemon()
        assert read(Transport("unix:gone", connect=daemon.connect), "/vms") == []
        assert daemon.asked == 2
    daemon = DyingDaemon()
    with pytest.raises(errors.Unreachable, match="went away"):
        Transport("unix:gone", connect=daemon.connect).post("/vms/web/stop")
    assert daemon.asked == 1


class BusyDaemon:
    """Answers the third time that it is asked: until then it is still at it."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.held: list[socket.socket] = []

    def connect(self, timeout_seconds: float | None) -> http.client.HTTPConnection:
        ours, theirs = socket.socketpair()
        ours.settimeout(0.05 if len(self.held) < 2 else 30)
        self.held.append(theirs)
        if len(self.held) == 3:
            theirs.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        connection = http.client.HTTPConnection("localhost", timeout=timeout_seconds)
        connection.sock = ours
        return connection


def test_what_takes_longer_than_an_answer_is_waited_for_is_asked_for_again_by_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(transport, "RETRY_PAUSE_SECONDS", 0.0)
    daemon = BusyDaemon()
    assert Transport("unix:busy", connect=daemon.connect).make("/vms", {}) == {}
    keys = {
        line
        for held in daemon.held
        for line in held.recv(4096).decode().splitlines()
        if line.startswith("Idempotency-Key")
    }
    assert (len(daemon.held), len(keys)) == (3, 1)
