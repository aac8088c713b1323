# SPDX-License-Identifier: Apache-2.0
"""Clients that connect to a VM from before its start until it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException

from support.host import fetch

INTERVAL_SECONDS = 0.3
MOST_AT_ONCE = 200
START_SECONDS = 300.0
# passt gives up after 10: who came so long before the first answer may have been lost, anybody later not.
KEPT_SECONDS = 5.0


@dataclass(frozen=True)
class Visit:
    began: float
    ended: float
    page: str
    """Empty where the connection ended without one."""


def visit(url: str) -> Visit | None:
    """None where nobody has accepted."""
    began = time.monotonic()
    page = ""
    try:
        page = fetch(url, timeout_seconds=300)
    except (OSError, HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
            return None
    return Visit(began, time.monotonic(), page)


@contextmanager
def early_visitors(url: str, words: str) -> Iterator[None]:
    """While a VM starts: all who were accepted shortly before the first answer, or after it, are answered."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        visits: list[Future[Visit | None]] = []

        def has_answered() -> bool:
            return any(found.done() and (seen := found.result()) and seen.page for found in visits)

        def come() -> None:
            deadline = time.monotonic() + START_SECONDS
            while not has_answered() and time.monotonic() < deadline:
                visits.append(pool.submit(visit, url))
                time.sleep(INTERVAL_SECONDS)

        coming = pool.submit(come)
        yield
        coming.result()
        seen = [found for future in visits if (found := future.result()) is not None]
    answered = [found for found in seen if found.page]
    assert answered, "nobody was answered"
    assert all(words in found.page for found in answered)
    first = min(found.ended for found in answered)
    lost = [found for found in seen if not found.page and found.began > first - KEPT_SECONDS]
    waited = ", ".join(
        f"came {first - found.began:.1f} s before, left after {found.ended - found.began:.1f} s"
        for found in lost
    )
    assert not lost, f"{len(lost)} of {len(seen)} saw nothing of the first answer: {waited}"
    print(
        f"{len(seen)} came, {len(answered)} were answered, the first {first - seen[0].began:.1f} s after it came"
    )
