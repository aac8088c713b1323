# SPDX-License-Identifier: Apache-2.0
"""Kills a daemon at any of its writes: to the database, to names of files, to what the hypervisor runs.

Each such call is a point. At the chosen one the process "dies": this call and every later one fail before they do
anything, so that no handler of the dying daemon tidies up what a real kill would leave.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from volant.volantd.database import Database
from volant.volantd.vms.fleet import Fleet

Life = Callable[[Fleet], Awaitable[None]]

NAME_CALLS = ("rename", "replace", "link", "unlink", "mkdir", "rmdir")


class Crash(BaseException):
    """Not an Exception: nothing in the daemon may take it for an error of the world."""


class CrashPoints:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self._fatal = 0
        self.is_dead = False
        for name in NAME_CALLS:
            monkeypatch.setattr(os, name, self._guard(getattr(os, name)))
        monkeypatch.setattr(
            os, "open", self._guard(os.open, lambda path, flags, *_: bool(flags & os.O_CREAT))
        )
        execute = Database.execute
        monkeypatch.setattr(
            Database,
            "execute",
            self._guard(execute, lambda _, statement, *__: not statement.lstrip().startswith("SELECT")),
        )

    def arm(self, fatal: int) -> None:
        """Die at this point, counted from 1; 0: never."""
        self.passed, self._fatal, self.is_dead = 0, fatal, False

    def act(self) -> None:
        """Pass one point."""
        self.passed += 1
        if self.is_dead or self.passed == self._fatal:
            self.is_dead = True
            raise Crash

    def _guard(
        self, call: Callable[..., Any], is_write: Callable[..., bool] = lambda *_: True
    ) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            if is_write(*arguments):
                self.act()
            return call(*arguments, **options)

        return guarded


async def live_until_killed(fleet: Fleet, points: CrashPoints, life: Life) -> None:
    """Whoever waits for a dead daemon's answer waits in vain."""
    living = asyncio.ensure_future(life(fleet))
    while not living.done() and not points.is_dead:
        await asyncio.wait({living}, timeout=0.01)
    living.cancel()
    (result,) = await asyncio.gather(living, return_exceptions=True)
    if isinstance(result, BaseException) and not points.is_dead:
        raise result
