# SPDX-License-Identifier: Apache-2.0
"""balancer-p99-ms: what the balancer adds to the slowest hundredth of 200 requests a second on kept connections.

Two VMs with nginx, asked in turn at their own addresses, and through the deployment's; the two alternate, so that what
else the machine does is in both. What it adds to requests that each make a connection is noted beside it, at a rate
that two emulated guests keep up with: at 200 such requests a second it is their queues that would be measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bench.deployed_web import deploy_web
from bench.http_load import Address, Answers, measure, measure_kept
from bench.results import note, ratio

RATE, CLIENTS = 200.0, 20
CONNECTION_RATE = 30.0
ROUNDS, ROUND_SECONDS = 5, 6.0

Measure = Callable[[Sequence[Address]], Coroutine[Any, Any, Answers]]


def main() -> None:
    with deploy_web(replicas=2) as web:
        addresses = (web.direct_addresses, [web.address])
        kept = alternate(lambda asked: measure_kept(asked, RATE, ROUND_SECONDS, CLIENTS), *addresses)
        fresh = alternate(lambda asked: measure(asked, CONNECTION_RATE, ROUND_SECONDS), *addresses)
    for name, (direct, balanced) in (("kept", kept), ("connect", fresh)):
        note(f"balancer-{name}-direct-p99-ms", round(direct, 2))
        note(f"balancer-{name}-balanced-p99-ms", round(balanced, 2))
        print(f"{name}: direct {direct:.1f} ms, balanced {balanced:.1f} ms")
    ratio("balancer-p99-ms", kept[1] - kept[0], digits=1)


def alternate(ask: Measure, direct: Sequence[Address], balanced: Sequence[Address]) -> tuple[float, float]:
    """The slowest hundredth of both ways, in milliseconds."""
    found = Answers(), Answers()
    for _ in range(ROUNDS):
        for answers, addresses in zip(found, (direct, balanced), strict=True):
            asked = asyncio.run(ask(addresses))
            answers.seconds += asked.seconds
            answers.lost += asked.lost
    if lost := found[0].lost + found[1].lost:
        raise SystemExit(f"{len(lost)} requests were lost, e.g. {lost[0]}")
    return found[0].slowest_hundredth_ms, found[1].slowest_hundredth_ms
