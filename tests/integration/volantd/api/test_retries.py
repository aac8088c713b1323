# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed costs its clients neither a VM nor an event: real processes, SIGKILL."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from support.daemon_process import START_SECONDS, VOLAR, Daemon, start_daemon, wait_until
from volant.client import transport
from volant.volar.client import Client


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def test_the_same_key_gives_the_same_vm_after_a_kill(daemon: Daemon) -> None:
    request = {"name": "vm", "plugin": "web", "network": "vsock"}
    status, made = daemon.call("POST", "/vms", request, **{"Idempotency-Key": "k1"})
    assert status == 201
    daemon.kill(signal.SIGKILL)
    daemon.start()
    status, again = daemon.call("POST", "/vms", request, **{"Idempotency-Key": "k1"})
    assert (status, again["id"]) == (201, made["id"])
    assert daemon.call("POST", "/vms", {**request, "name": "x"}, **{"Idempotency-Key": "k1"})[0] == 422
    assert daemon.call("POST", "/vms", request, **{"Idempotency-Key": "k2"})[0] == 409
    assert daemon.call("POST", "/vms", request, **{"Idempotency-Key": "k" * 201})[0] == 422
    assert len(daemon.guests()) == 1


def test_a_kill_at_any_instant_of_a_create_makes_one_vm(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """volar tries again while the daemon comes back; whatever the first try had done by then, there is one VM."""
    monkeypatch.setattr(transport, "RETRY_SECONDS", START_SECONDS)  # a busy host takes its time for that
    for number, seconds in enumerate((0.0, 0.02, 0.08)):
        client = Client(str(daemon.socket))
        made: list[str] = []

        def create(name: str = f"vm-{number}", client: Client = client, made: list[str] = made) -> None:
            made.append(client.create_vm({"name": name, "plugin": "web", "network": "vsock"})["id"])

        thread = threading.Thread(target=create)
        thread.start()
        time.sleep(seconds)  # where in the request the kill falls does not matter: somewhere else each time
        daemon.kill(signal.SIGKILL)
        daemon.start()
        thread.join(START_SECONDS + 60)
        assert made == [daemon.vm(f"vm-{number}")["id"]]
    wait_until(lambda: len(daemon.guests()) == 3)


def test_events_are_followed_through_a_restart_none_twice_and_none_lost(daemon: Daemon) -> None:
    process = subprocess.Popen(
        [*VOLAR, "events", "--watch", "-o", "json"],
        env={**daemon.environment, "VOLANT_NO_AUTOSTART": "1"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen: list[int] = []

    def read() -> None:
        assert process.stdout is not None
        seen.extend(json.loads(line)["id"] for line in process.stdout)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        number = 0
        while not seen:  # until it listens
            number += 1
            assert number < 200
            daemon.call(
                "POST", "/vms", {"name": f"v{number}", "plugin": "web", "start": False, "network": "vsock"}
            )
            time.sleep(0.05)
        daemon.kill(signal.SIGKILL)
        daemon.start()
        for name in ("a", "b", "c"):
            daemon.call("POST", "/vms", {"name": name, "plugin": "web", "start": False, "network": "vsock"})
        last = int(daemon.call("GET", "/events/vms")[1].decode().rpartition("\nid: ")[2].split("\n")[0])
        wait_until(lambda: seen[-1] == last)
        assert seen == list(range(seen[0], last + 1))
    finally:
        process.kill()
        reader.join(10)
        process.wait(10)
