# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed at random while several clients ask for random things: nothing is lost, leaked or doubled.

Run by `make chaos-daemon` alone, for CHAOS_SECONDS. A failure names its seed; CHAOS_SEED=N asks for the same verbs.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.daemon_process import Daemon, start_daemon, wait_until
from support.plugin_files import make_data_plugin, make_plugin

SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
WORKERS = 3
VMS_A_WORKER = 2
# In the order of the verbs below.
WEIGHTS = [6, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 2, 3, 1, 1, 1, 2, 3, 1, 1]
CHANGES = ("create", "fork", "delete")
WITH_PROCESS = ("starting", "running", "paused", "stopping")
pytestmark = [
    pytest.mark.timeout(SECONDS * 3 + 300),
    pytest.mark.skipif("CHAOS_SECONDS" not in os.environ, reason="minutes of kills: make chaos-daemon"),
]


class Client:
    """One thread that asks for random things of VMs of its own, and remembers what it was told."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        self.daemon = daemon
        self.random = random.Random(SEED * 100 + number)
        self.names = [f"vm-{number}-{index}" for index in range(VMS_A_WORKER)]
        self.exists: dict[str, bool | None] = dict.fromkeys(self.names, False)  # None: nobody said
        self.surprises: list[str] = []
        self.verbs = 0
        self.replies: Counter[tuple[str, bool]] = Counter()

    def act(self) -> None:
        name = self.random.choice(self.names)
        verbs: dict[str, Callable[[], tuple[str, str, Any]]] = {
            "create": lambda: (
                "POST",
                "/vms",
                {
                    "name": name,
                    "plugin": self.random.choice(["web", "data"]),
                    "volumes": [{"name": f"of-{name}", "target": "/data"}]
                    if self.random.random() < 0.3
                    else [],
                },
            ),
            "start": lambda: ("POST", f"/vms/{name}/start", None),
            "stop": lambda: (
                "POST",
                f"/vms/{name}/stop",
                {"timeout_seconds": 1, "force": self.random.random() < 0.5},
            ),
            "restart": lambda: ("POST", f"/vms/{name}/restart", {"timeout_seconds": 0}),
            "pause": lambda: ("POST", f"/vms/{name}/pause", None),
            "unpause": lambda: ("POST", f"/vms/{name}/unpause", None),
            "update": lambda: (
                "PATCH",
                f"/vms/{name}",
                {"labels": {"n": str(self.verbs)}, "kernel_arguments": f"n={self.verbs % 3}"},
            ),
            "suspend": lambda: ("POST", f"/vms/{name}/suspend", None),
            "resume": lambda: ("POST", f"/vms/{name}/resume", None),
            "snapshot": lambda: ("POST", f"/vms/{name}/snapshots", {"name": f"of-{name}"}),
            "restore": lambda: ("POST", f"/vms/{name}/restore", {"snapshot": f"of-{name}"}),
            "no snapshot": lambda: ("DELETE", f"/snapshots/of-{name}", None),
            "delete": lambda: ("DELETE", f"/vms/{name}?force=true", None),
            "plugin": lambda: ("POST", "/plugins", make_plugin("other")),
            "no plugin": lambda: ("DELETE", "/plugins/other", None),
            "secret": lambda: ("PUT", "/secrets/key", {"value_base64": "eA=="}),
            "volume": lambda: ("POST", "/volumes", {"name": f"of-{name}", "size": "16M"}),
            "fork": lambda: ("POST", f"/vms/{self.random.choice(self.names)}/fork", {"names": [name]}),
            "grow": lambda: ("POST", f"/volumes/of-{name}/resize", {"size": f"{16 + self.verbs % 50}M"}),
            "no volume": lambda: ("DELETE", f"/volumes/of-{name}", None),
        }
        verb = self.random.choices(list(verbs), weights=WEIGHTS)[0]
        if verb in CHANGES:
            before, self.exists[name] = self.exists[name], None
        try:
            status, reply = self.daemon.call(*verbs[verb]())
        except (OSError, http.client.HTTPException):
            return  # it was killed in between: either may have happened
        self.verbs += 1
        self.replies[verb, status < 400] += 1
        if verb in ("create", "fork") and status == 201:
            self.exists[name] = True
        elif verb == "delete" and status in (204, 404):
            self.exists[name] = False
        elif verb in CHANGES:
            self.exists[name] = None if before is None else before
        if status >= 500 and status not in (502, 507):
            self.surprises.append(f"{verb} {name}: {status} {reply}")


def work(client: Client, ended: threading.Event) -> None:
    while not ended.is_set():
        client.act()
        ended.wait(client.random.random() * 0.05)


@contextlib.contextmanager
def working(clients: list[Client]) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=work, args=(client, ended)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def find_problems(daemon: Daemon, clients: list[Client]) -> list[str]:
    """What is not as it should be in a daemon that nobody asks for anything."""
    vms: list[dict[str, Any]] = daemon.call("GET", "/vms")[1]
    names = {vm["name"] for vm in vms}
    problems = [
        f"{name}: there is {'one' if name in names else 'none'}, and we were told otherwise"
        for client in clients
        for name, exists in client.exists.items()
        if exists is not None and exists != (name in names)
    ]
    folders = {path.name for path in (daemon.home / "vms").glob("*")}
    if folders != {vm["id"] for vm in vms}:
        problems.append(f"folders {folders} are not those of {[vm['id'] for vm in vms]}")
    running = {vm["hypervisor"]["pid"] for vm in vms if vm["status"] in WITH_PROCESS and vm["hypervisor"]}
    if set(daemon.guests()) != running:
        problems.append(
            f"processes {daemon.guests()}, VMs {[(vm['name'], vm['status'], vm['hypervisor']) for vm in vms]}"
        )
    if stuck := [vm["name"] for vm in vms if vm["status"] in ("starting", "stopping")]:
        problems.append(f"{stuck} are neither here nor there")
    for place in ("lost+found", "restore"):
        if (daemon.home / place).exists():
            problems.append(f"{place}: {list((daemon.home / place).rglob('*'))}")
    hidden = [
        path
        for folder in ("vms", "plugins", "snapshots", "volumes")
        for path in (daemon.home / folder).rglob(".*")
    ]
    return problems + [f"left behind: {path}" for path in hidden]


def test_random_kills() -> None:
    chance = random.Random(SEED)
    with start_daemon() as daemon:
        assert daemon.call("POST", "/plugins", make_data_plugin())[0] == 201
        clients = [Client(daemon, number) for number in range(WORKERS)]
        deadline, kills = time.monotonic() + SECONDS, 0
        while time.monotonic() < deadline:
            with working(clients):
                time.sleep(chance.random() * 2)
                daemon.kill()
            kills += 1
            daemon.start()
            try:
                wait_until(lambda: not find_problems(daemon, clients), 60)
            except AssertionError:
                pytest.fail(f"seed {SEED}, kill {kills}: " + "\n".join(find_problems(daemon, clients)))
            # What nobody was told is looked up.
            names = {vm["name"] for vm in daemon.call("GET", "/vms")[1]}
            for client in clients:
                client.exists = {name: name in names for name in client.names}
        surprises = [surprise for client in clients for surprise in client.surprises]
        assert not surprises
        verbs = sum(client.verbs for client in clients)
        print(f"{kills} kills, {verbs} answered verbs")
        replies = sum((client.replies for client in clients), Counter[tuple[str, bool]]())
        for verb in sorted({verb for verb, _ in replies}):
            print(f"  {verb}: {replies[verb, True]} done, {replies[verb, False]} refused")
        assert kills > 0 and verbs > 0
        for name in {vm["name"] for vm in daemon.call("GET", "/vms")[1]}:
            assert daemon.call("DELETE", f"/vms/{name}?force=true")[0] == 204
        for snapshot in daemon.call("GET", "/snapshots")[1]:
            assert daemon.call("DELETE", f"/snapshots/{snapshot['name']}")[0] == 204
        assert daemon.guests() == []
        assert list((daemon.home / "snapshots").iterdir()) == []
        assert list((daemon.home / "vms").iterdir()) == []
        for volume in daemon.call("GET", "/volumes")[1]:
            assert daemon.call("DELETE", f"/volumes/{volume['name']}")[0] == 204
        assert list((daemon.home / "volumes").iterdir()) == []
