# SPDX-License-Identifier: Apache-2.0
"""How often one client may ask: a bucket for each token and each other user of the socket, and one for all strangers.

A bucket holds what may come at once and fills as time goes by. The daemon's own user and root on the UNIX socket have
none: whoever they are could as well end the daemon.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from volant.errors import TooManyRequests

# A limit's seconds come at once after a pause.
BURST_SECONDS = 5.0
MOST_BUCKETS = 1000
STRANGERS = "strangers"


@dataclass(slots=True)
class Bucket:
    left: float
    at: float


class RateLimiter:
    """`per_second` 0: no limit."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._most = per_second * BURST_SECONDS
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def check(self, who: str) -> None:
        """One more request of `who`; TooManyRequests where there have been too many."""
        if not self._per_second:
            return
        now = self._clock()
        bucket = self._buckets.get(who)
        if bucket is None:
            self._make_room(now)
            bucket = self._buckets[who] = Bucket(self._most, now)
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.left < 1:
            seconds = math.ceil((1 - bucket.left) / self._per_second)
            raise TooManyRequests(
                f"cannot answer {who} that often: {self._per_second:g} requests a second are the limit",
                retry_after_seconds=seconds,
            )
        bucket.left -= 1

    def _make_room(self, now: float) -> None:
        """Full buckets say nothing that a new one would not; where all are in use the oldest goes."""
        if len(self._buckets) < MOST_BUCKETS:
            return
        self._buckets = {
            who: bucket for who, bucket in self._buckets.items() if now - bucket.at < BURST_SECONDS
        }
        while len(self._buckets) >= MOST_BUCKETS:
            del self._buckets[min(self._buckets, key=lambda who: self._buckets[who].at)]
