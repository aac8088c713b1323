# SPDX-License-Identifier: Apache-2.0
"""Idempotency keys: whoever asks again with the same key gets the VM that it asked for, not another one.

A key is written in the transaction of its VM's row and goes with it, so that a daemon that was killed at any instant
has both or none: then asking again finishes what was begun, or begins it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from volant.errors import InvalidInput
from volant.volantd.database import Database

MIGRATIONS = (
    """
    CREATE TABLE request_keys (
        key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX request_keys_by_vm ON request_keys (vm_id);
    """,
)


@dataclass(frozen=True, slots=True)
class RequestKey:
    """`who` asks: one client's keys are nothing to another. `content` is what is asked for, in full."""

    who: str
    text: str
    content: bytes

    @property
    def key(self) -> str:
        return f"{self.who}\n{self.text}"

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text_and_content(self) -> str:
        """All of it, for a record of its own."""
        return f"{self.key}\n{self.fingerprint}"

    def is_same(self, recorded: str) -> bool:
        """Whether `text_and_content` of this request was recorded; InvalidInput where it was another one's."""
        key, _, fingerprint = recorded.rpartition("\n")
        if key != self.key:
            return False
        self.check(fingerprint)
        return True

    def check(self, fingerprint: str) -> None:
        if fingerprint != self.fingerprint:
            raise InvalidInput(
                "cannot use this Idempotency-Key: something else was asked for with it",
                resolution="use a new key for each new request; repeat a request unchanged",
            )


class RequestKeys:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._busy: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: RequestKey) -> AsyncIterator[None]:
        """One at a time for each key: the second waits for what the first has made."""
        lock, users = self._busy.get(key.key, (asyncio.Lock(), 0))
        self._busy[key.key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._busy.pop(key.key)
            if users > 1:
                self._busy[key.key] = (lock, users - 1)

    def find(self, key: RequestKey) -> str | None:
        """The id of the VM that was made for this key; InvalidInput where that was asked for otherwise."""
        row = self._database.fetch_one("SELECT * FROM request_keys WHERE key = ?", (key.key,))
        if row is None:
            return None
        key.check(row["fingerprint"])
        return str(row["vm_id"])

    def add(self, key: RequestKey | None, vm_id: str) -> None:
        """Within the transaction that writes the VM's row; None: it was asked for without one."""
        if key is None:
            return
        self._database.execute("INSERT INTO request_keys VALUES (?, ?, ?)", (key.key, key.fingerprint, vm_id))
