# SPDX-License-Identifier: Apache-2.0
"""Whether somebody is in a VM, and when somebody was last: its sessions, apart from what passes its published ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Use:
    def __init__(self) -> None:
        self._sessions = 0
        self._ended_at = 0.0

    @contextmanager
    def session(self) -> Iterator[None]:
        """Somebody is in it meanwhile: it is not idle."""
        self._sessions += 1
        try:
            yield
        finally:
            self._sessions -= 1
            self._ended_at = asyncio.get_running_loop().time()

    def is_since(self, moment: float) -> bool:
        """By the event loop's clock."""
        return self._sessions > 0 or self._ended_at >= moment
