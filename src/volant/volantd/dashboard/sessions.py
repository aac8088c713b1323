# SPDX-License-Identifier: Apache-2.0
"""Who may use the page: one-time codes become sessions. Both live in memory alone and end with the daemon."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

CODE_SECONDS = 60
SESSION_SECONDS = 12 * 3600
# Of each kind. Whoever may ask for links has the whole API; the bound is for loops that went wrong.
MOST_KEPT = 64


class _Kept:
    """Random texts that count for a while, remembered by their digest; the oldest go where there are too many."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._kept: dict[bytes, tuple[float, str]] = {}

    def make(self, who: str) -> str:
        text = secrets.token_urlsafe(32)
        self._kept = {digest: kept for digest, kept in self._kept.items() if kept[0] > self._now()}
        while len(self._kept) >= MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[_digest(text)] = (self._now() + self._seconds, who)
        return text

    def find(self, text: str) -> str | None:
        """Whose it is; None where it is none, or no longer."""
        until, who = self._kept.get(_digest(text), (0.0, ""))
        return who if until > self._now() else None

    def drop(self, text: str) -> None:
        self._kept.pop(_digest(text), None)


class Sessions:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._codes = _Kept(CODE_SECONDS, now)
        self._sessions = _Kept(SESSION_SECONDS, now)

    def make_code(self, who: str) -> str:
        """`who` asks for it: what is done in its session is told to be theirs."""
        return self._codes.make(who)

    def redeem(self, code: str) -> str | None:
        """The session that this code opens; None where it is none, is used already, or is too old."""
        who = self._codes.find(code)
        self._codes.drop(code)
        return None if who is None else self._sessions.make(who)

    def find_owner(self, session: str) -> str | None:
        return self._sessions.find(session)

    def close(self, session: str) -> None:
        self._sessions.drop(session)


def _digest(text: str) -> bytes:
    """What is looked up is not what was shown: how long a look-up takes says nothing."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
