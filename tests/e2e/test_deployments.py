# SPDX-License-Identifier: Apache-2.0
"""A deployment of real VMs: balanced, replaced, updated under load, undone, and carried on by the next daemon."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.busybox_web import make_web_plugin
from support.host import Host, wait_until

NAME = "shop"
PATIENCE_SECONDS = 240.0
# Each VM's page is its own name, from its second revision on with a word of that.
PAGE = 'hostname > /www/index.html; echo "$WORD" >> /www/index.html; exec /bin/busybox httpd -f -p 80 -h /www'
SERVE = ("--", "/bin/busybox", "sh", "-c", PAGE)


class Load:
    """Requests one after the other from several clients, each with a connection of its own."""

    def __init__(self, url: str) -> None:
        self.pages: Counter[str] = Counter()
        self.lost: list[str] = []
        self._url = url
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def _ask(self) -> None:
        while not self._ended.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=60) as reply:
                    self.pages[reply.read().decode()] += 1
            except OSError as error:
                self.lost.append(repr(error))
            time.sleep(0.02)

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join()


def see(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.volar("deployments", "get", NAME, "-o", "json").stdout)
    return found


def list_revisions(host: Host) -> set[int]:
    return {vm["revision"] for vm in see(host)["vms"]}


@pytest.fixture(scope="module")
def url(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    plugin = make_web_plugin(tmp_path_factory.mktemp("web"), host, find_busybox())
    host.volar("plugins", "install", str(plugin))
    host.volar(
        "deployments", "create", NAME, "--plugin", "web", "--replicas", "2", "--publish", "80", "--memory", "128",
        *SERVE, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    (port,) = see(host)["publish"]
    yield f"http://{port['host_ip']}:{port['host_port']}/"
    host.volar("deployments", "delete", NAME, timeout=PATIENCE_SECONDS, check=False)
    host.volar("plugins", "remove", "web", check=False)


def find_busybox() -> Path:
    return Path("/bin/busybox")


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as reply:
        return str(reply.read().decode())


def test_connections_go_to_both(host: Host, url: str) -> None:
    assert {ask(url).split()[0] for _ in range(8)} == {"shop-1", "shop-2"}
    listed = host.volar("vms", "list", "--label", f"volant.deployment={NAME}", "-o", "name").stdout
    assert listed.split() == ["vm/shop-1", "vm/shop-2"]


def test_one_whose_process_is_killed_is_replaced(host: Host, url: str) -> None:
    victim = host.vm("shop-1")
    os.kill(victim["hypervisor"]["pid"], signal.SIGKILL)
    wait_until("another VM of that name", lambda: is_replaced(host, victim["id"]), PATIENCE_SECONDS)
    assert {ask(url).split()[0] for _ in range(8)} == {"shop-1", "shop-2"}


def is_replaced(host: Host, vm_id: str) -> bool:
    vms = see(host)["vms"]
    return len(vms) == 2 and all(vm["ready"] and vm["id"] != vm_id for vm in vms)


def test_an_update_under_load_loses_no_request(host: Host, url: str) -> None:
    load = Load(url)
    with load.running():
        host.volar("deployments", "update", NAME, "-e", "WORD=second", timeout=PATIENCE_SECONDS)
    assert load.lost == []
    assert {page.split()[-1] for page in load.pages} >= {"second"}
    assert list_revisions(host) == {2}
    assert {ask(url).split()[-1] for _ in range(4)} == {"second"}


def test_a_version_that_does_not_become_healthy_is_undone_and_nobody_notices(host: Host, url: str) -> None:
    load = Load(url)
    with load.running():
        failed = host.volar(
            "deployments", "update", NAME, "--healthy-within", "4s", "--", "/bin/busybox", "sleep", "1000",
            check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
    assert failed.returncode == 10, failed.stderr
    assert f"the update of {NAME} was undone: no new VM became healthy within 4 s" in failed.stderr
    assert load.lost == []
    assert {page.split()[-1] for page in load.pages} == {"second"}
    assert see(host)["status"] == "rolled-back"


def test_the_next_daemon_finishes_an_update(host: Host, url: str) -> None:
    host.volar("deployments", "update", NAME, "-e", "WORD=third", "--healthy-within", "2m", "--no-wait")
    wait_until("the update to be under way", lambda: len(see(host)["vms"]) > 2, PATIENCE_SECONDS)
    host.kill_daemon()
    assert ask(url).split()[0].startswith("shop-"), "without a daemon, too"
    wait_until("the update to be finished", lambda: see(host)["status"] == "ready", PATIENCE_SECONDS)
    deployment = see(host)
    assert {vm["revision"] for vm in deployment["vms"]} == {deployment["revision"]}
    assert len(deployment["vms"]) == 2
    assert len(list(host.home.glob("vms/*"))) == len(
        json.loads(host.volar("vms", "list", "-o", "json").stdout)
    )
    assert {ask(url).split()[-1] for _ in range(4)} == {"third"}
    host.volar("deployments", "delete", NAME, timeout=PATIENCE_SECONDS)
    assert host.volar("vms", "list", "--label", f"volant.deployment={NAME}", "-o", "name").stdout == ""
