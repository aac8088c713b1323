# SPDX-License-Identifier: Apache-2.0
"""A bound on how often a guest makes its host do something: a burst at once, then one in a while."""

from __future__ import annotations

import asyncio


class Pace:
    """A token bucket of `burst` tokens, one more every `seconds`."""

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._tokens = float(burst)
        self._counted_at = 0.0

    async def wait(self) -> None:
        """Take a token; waits for it where there is none."""
        now = asyncio.get_running_loop().time()
        refilled = (now - self._counted_at) / self._seconds if self._counted_at else 0.0
        self._tokens = min(self._burst, self._tokens + refilled) - 1
        self._counted_at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens * self._seconds)
