# SPDX-License-Identifier: Apache-2.0
"""Where the time of a VM's present boot went: its steps, each noted once, by whichever daemon sees it happen.

Events tell the same as it happens, and go in time; this stays until the VM's next start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import VmState

MIGRATIONS = (
    """
    CREATE TABLE vm_boots (
        vm_id TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE, started_at TEXT NOT NULL, steps TEXT NOT NULL
    ) STRICT;
    """,
)
StepName = Literal["disk", "machine", "agent", "running", "healthy"]


@dataclass(frozen=True, slots=True)
class BootStep:
    """`seconds` since the start was asked for."""

    name: StepName
    seconds: float


class BootRecords:
    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, record: VmRecord, kind: str, data: Mapping[str, object]) -> None:
        """What an event of this VM says of its boot, if anything."""
        if record.started_at is None:
            return
        if kind == "state" and record.state is VmState.STARTING:
            self._write(record, [])
        elif (step := find_step(record, kind, data)) is not None:
            steps = self._read(record)
            # The first time counts: the agent is connected to again, and health turns over.
            if steps is not None and all(known.name != step for known in steps):
                seconds = measure_seconds(record.started_at, now())
                self._write(record, [*steps, BootStep(step, seconds)])

    def read(self, record: VmRecord) -> list[BootStep]:
        """Empty before a VM's first start."""
        return self._read(record) or []

    def _read(self, record: VmRecord) -> list[BootStep] | None:
        """None where nobody saw this boot begin, as with a VM that an older volant started."""
        row = self._database.fetch_one("SELECT * FROM vm_boots WHERE vm_id = ?", (record.id,))
        if row is None or row["started_at"] != record.started_at:
            return None
        return [BootStep(name, seconds) for name, seconds in json.loads(row["steps"])]

    def _write(self, record: VmRecord, steps: list[BootStep]) -> None:
        self._database.execute_soon(
            "INSERT INTO vm_boots (vm_id, started_at, steps) VALUES (?, ?, ?)"
            " ON CONFLICT (vm_id) DO UPDATE SET started_at = excluded.started_at, steps = excluded.steps",
            (record.id, record.started_at, json.dumps([(step.name, step.seconds) for step in steps])),
        )


def find_step(record: VmRecord, kind: str, data: Mapping[str, object]) -> StepName | None:
    match kind:
        case "prepared":
            return "disk"
        case "started":
            return "machine"
        case "agent" if data.get("connected"):
            return "agent"
        case "state" if record.state is VmState.RUNNING:
            return "running"
        case "health" if data.get("health") == "healthy":
            return "healthy"
    return None


def measure_seconds(begin: str, end: str) -> float:
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds(), 3)
