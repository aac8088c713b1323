# SPDX-License-Identifier: Apache-2.0
"""One agent's VMs: within limits, apart from others, gone in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from support.host import wait_until
from support.in_process_daemon import InProcessDaemon, start_in_process
from volant.errors import Conflict, InvalidInput, NotPermitted
from volant.volar import mcp_workshop
from volant.volar.mcp_workshop import LABEL, Limits, Workshop

LIMITS = Limits(vms=2, memory_mb=512, cpus=2)


class Shop(Workshop):
    """Makes VMs that are not started; everything else is real."""

    def _run_volar(self, source: str, name: str, memory_mb: int, cpus: int, command: list[str]) -> None:
        labels = {LABEL: self.session}
        self.client.create_vm({"name": name, "plugin": source, "start": False, "labels": labels})


@pytest.fixture
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as found:
        found.install("web")
        yield found


def test_only_so_many_and_only_so_large(daemon: InProcessDaemon) -> None:
    shop = Shop(daemon.client, LIMITS)
    assert shop.run("web", "one", 256, 1, [])["name"] == "one"
    assert shop.run("web", "", 512, 2, [])["name"].startswith("mcp-")
    with pytest.raises(Conflict, match="may have 2 VMs"):
        shop.run("web", "three", 256, 1, [])
    shop.delete("one")
    for memory, cpus in ((513, 1), (0, 1), (256, 3), (256, -1)):
        with pytest.raises(InvalidInput):
            shop.run("web", "three", memory, cpus, [])
    assert len(shop.list_vms()) == 1


@pytest.mark.parametrize("source", ["/etc", "./x", "../x", "~/x", "-v", ".", "/dev/null"])
def test_files_of_this_host_are_not_run(daemon: InProcessDaemon, source: str) -> None:
    with pytest.raises(InvalidInput, match="no files of this host"):
        Shop(daemon.client, LIMITS).run(source, "one", 256, 1, [])


def test_other_sessions_and_people_keep_theirs(daemon: InProcessDaemon) -> None:
    daemon.client.create_vm({"name": "mine", "plugin": "web", "start": False})
    other, shop = Shop(daemon.client, LIMITS), Shop(daemon.client, LIMITS)
    other.run("web", "theirs", 256, 1, [])
    for name in ("mine", "theirs"):
        with pytest.raises(NotPermitted):
            shop.delete(name)
        with pytest.raises(NotPermitted):
            shop.fork(name, ["copy"])
    shop.close()
    assert {vm["name"] for vm in daemon.client.list_vms()} == {"mine", "theirs"}


def test_what_has_lived_its_time_goes_and_the_end_takes_the_rest(daemon: InProcessDaemon) -> None:
    shop = Shop(daemon.client, LIMITS)
    shop.run("web", "long", 256, 1, [])
    shop.limits = replace(LIMITS, seconds=0)
    shop.run("web", "short", 256, 1, [])
    assert shop.sweep() == ["short"]
    assert [vm["name"] for vm in shop.list_vms()] == ["long"]
    shop.close()
    assert daemon.client.list_vms() == []


def test_the_watch_deletes_what_has_lived_its_time_until_the_session_ends(
    daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_workshop, "SWEEP_SECONDS", 0.01)
    shop = Shop(daemon.client, replace(LIMITS, seconds=0))
    shop.run("web", "short", 256, 1, [])
    watch = threading.Thread(target=shop.watch)
    watch.start()
    wait_until("its VM to go", lambda: daemon.client.list_vms() == [])
    shop.close()
    watch.join(30)
    assert not watch.is_alive()
