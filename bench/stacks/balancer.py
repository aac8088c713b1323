# SPDX-License-Identifier: Apache-2.0
"""balancer-p99-ms: what the balancer adds to the slowest hundredth of 200 requests a second.

Two VMs with nginx, asked in turn at their own addresses, and through the deployment's; the two alternate, so that what
else the machine does is in both.
"""

from __future__ import annotations

import asyncio

from bench.deployed_web import deploy_web
from bench.http_load import Answers, measure
from bench.results import note, ratio

RATE = 200.0
ROUNDS, ROUND_SECONDS = 5, 6.0


def main() -> None:
    with deploy_web(replicas=2) as web:
        direct, balanced = Answers(), Answers()
        for _ in range(ROUNDS):
            for answers, addresses in ((direct, web.direct_addresses), (balanced, [web.address])):
                found = asyncio.run(measure(addresses, RATE, ROUND_SECONDS))
                answers.seconds += found.seconds
                answers.lost += found.lost
    if lost := direct.lost + balanced.lost:
        raise SystemExit(f"{len(lost)} requests were lost, e.g. {lost[0]}")
    note("balancer-direct-p99-ms", round(direct.slowest_hundredth_ms, 2))
    note("balancer-balanced-p99-ms", round(balanced.slowest_hundredth_ms, 2))
    print(f"direct {direct.slowest_hundredth_ms:.1f} ms, balanced {balanced.slowest_hundredth_ms:.1f} ms")
    ratio("balancer-p99-ms", balanced.slowest_hundredth_ms - direct.slowest_hundredth_ms, digits=1)
