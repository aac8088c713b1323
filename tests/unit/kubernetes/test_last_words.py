# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest

from support.fake_cluster import FakeDaemon, make_pod, make_vm
from volant.contract.api_types import Vm
from volant.kubernetes.last_words import LastWords
from volant.kubernetes.references import get_container
from volant.kubernetes.status import make_status

LOGS = "FallbackToLogsOnError"


def make_lines(*lines: str) -> list[dict[str, str]]:
    return [{"time": "2026-11-27T10:00:01Z", "stream": "stdout", "line": line} for line in lines]


async def tell(policy: str, daemon: FakeDaemon, vm: Vm) -> str | None:
    pod = make_pod({"restartPolicy": "Never"}, terminationMessagePolicy=policy)
    status = make_status(pod, vm, host_ip="192.0.2.1", pod_ip="")
    await LastWords(cast("Any", daemon), get_container(pod)).add(status, vm)
    (container,) = status.containerStatuses or []
    assert container.state is not None and container.state.terminated is not None
    return container.state.terminated.message


def make_ended(code: int, message: str = "") -> Vm:
    return make_vm(
        status="stopped", exit_code=code, processes=[], last_message=message, status_reason="exited"
    )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("policy", "code", "left", "told"),
    [
        (LOGS, 1, "", "one\ntwo"), (LOGS, 1, "left", "left"), (LOGS, 0, "", None), (LOGS, 0, "left", "left"),
        ("File", 1, "", "exited"), ("File", 1, "left", "left"), ("File", 0, "left", "left"),
    ],
)  # fmt: skip
async def test_what_a_container_left_counts_then_its_log_then_what_we_know(
    policy: str, code: int, left: str, told: str | None
) -> None:
    daemon = FakeDaemon()
    daemon.lines = make_lines("one", "two")
    assert await tell(policy, daemon, make_ended(code, left)) == told


@pytest.mark.asyncio
async def test_a_long_log_is_told_by_its_end() -> None:
    daemon = FakeDaemon()
    daemon.lines = make_lines("x" * 3000, "the end")
    said = await tell(LOGS, daemon, make_ended(1))
    assert said is not None and len(said) == 2048 and said.endswith("x\nthe end")


@pytest.mark.asyncio
async def test_a_log_that_is_empty_leaves_what_we_know() -> None:
    assert await tell(LOGS, FakeDaemon(), make_ended(1)) == "exited"
