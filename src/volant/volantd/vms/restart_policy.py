# SPDX-License-Identifier: Apache-2.0
"""Whether and when a VM that has ended is started again, with the words and the meaning that Docker gives them.

A policy begins to count once the workload has run: what cannot even start is not tried again. Each restart in a row
waits twice as long; a VM that stayed up for a while begins anew. Two things are ours: a host that goes down or loses
its power is a failure of nobody, so whatever ran comes back unless the policy is `no`; and `always` brings back what a
person has stopped with the host only, since the daemon may be restarted at any time while VMs run on.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
STABLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`kind`: no, on-failure, always or unless-stopped; `limit`: of restarts in a row, None for no end."""

    kind: str
    limit: int | None = None

    def wants(self, *, is_failure: bool, restarts: int) -> bool:
        """After an end that nobody asked for, with so many restarts in a row behind it."""
        if self.limit is not None and restarts >= self.limit:
            return False
        return self.kind in ("always", "unless-stopped") or (self.kind == "on-failure" and is_failure)


def read_policy(text: str) -> RestartPolicy:
    """As it is stored, which the API has checked: no, always, unless-stopped, on-failure or on-failure:N."""
    kind, _, limit = text.partition(":")
    return RestartPolicy(kind, int(limit) if limit else None)


def find_delay_seconds(restarts: int) -> float:
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(restarts, 16), LONGEST_DELAY_SECONDS)
