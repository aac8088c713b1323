# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volar.commands import vms_stats
from volant.volar.commands.vms_stats import Sample, make_rows


@pytest.fixture(scope="module", autouse=True)
def vms(daemon: InProcessDaemon) -> None:
    daemon.install("used")
    daemon.client.post("/vms", {"name": "off", "plugin": "used", "start": False})


def make_sample(moment: float, cpu_seconds: float, guest: dict[str, int] | None = None) -> Sample:
    vm: Any = {"id": "1", "name": "web", "status": "running"}
    stats: Any = {"guest": guest, "host_memory_bytes": 64 << 20, "host_cpu_seconds": cpu_seconds}
    return Sample(vm, stats, moment)


GUEST = {
    "uptime_seconds": 7200, "memory_used_bytes": 1 << 20, "memory_total_bytes": 2 << 20, "disk_used_bytes": 1 << 30,
    "disk_total_bytes": 4 << 30, "network_received_bytes": 1024, "network_sent_bytes": 0,
}  # fmt: skip


def test_a_row_shows_the_share_of_a_cpu_between_two_samples() -> None:
    (row,) = make_rows([make_sample(0, 1.0)], [make_sample(2, 2.5, GUEST)])
    assert row == [
        "web", "running", "75 %", "1.0 MiB of 2.0 MiB", "1.0 GiB of 4.0 GiB", "1.0 KiB", "0 B", "64.0 MiB", "2h",
    ]  # fmt: skip
    (row,) = make_rows([], [make_sample(2, 2.5)])
    assert row == ["web", "running", "-", "-", "-", "-", "-", "64.0 MiB", "-"]


def test_tables_and_documents(volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vms_stats, "FIRST_SECONDS", 0.0)
    assert volar("stats", "--no-stream").out.split()[:2] == ["NAME", "STATUS"]
    assert volar("create", "on", "-p", "used").exit_code == 0
    rows = volar("stats", "on", "off").out.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [["on", "running"], ["off", "created"]]
    assert json.loads(volar("stats", "on", "-o", "json").out)["guest"]["uptime_seconds"] == 1
    assert [one["name"] for one in json.loads(volar("stats", "-o", "json").out)] == ["on"]
    assert "host memory:" in volar("vms", "stats", "on").out


def test_the_table_is_shown_again_until_interrupted(volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", nap)
    done = volar("top", "off", "--interval", "5")
    assert done.exit_code == 130
    assert done.out.count("NAME") == 2
    assert naps[1:] == [5.0, 5.0]
