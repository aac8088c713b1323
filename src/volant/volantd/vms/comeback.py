# SPDX-License-Identifier: Apache-2.0
"""VMs that the host's shutdown ended: stopped in order, and started again with the next daemon.

Their list is written before the first of them is stopped and removed after the last has been started, so that a host
that loses its power in the middle, or a daemon that is killed, loses none. Whoever asks a VM to be stopped means
something else: that one stays stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from volant.errors import NotFound, VolantError, WrongState
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.states import WITH_PROCESS
from volant.whole_file import write_whole_file

logger = logging.getLogger(__name__)


class Comeback:
    """The ids of those VMs, in a file of the state folder."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "comeback.json"

    def read(self) -> list[str]:
        try:
            return [str(name) for name in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            logger.warning("cannot tell which VMs ran before: %s: %s", self._path, error)
            return []

    def add(self, ids: Sequence[str]) -> None:
        write_whole_file(self._path, json.dumps(sorted({*self.read(), *ids})).encode(), mode=0o600)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


async def stop_all(fleet: Fleet, comeback: Comeback, timeout_seconds: float) -> list[VmRecord]:
    """Stop every VM in order, all at once, and return those; what does not end in time is killed."""
    running = [record for record in fleet.list_all() if record.state in WITH_PROCESS]
    comeback.add([record.id for record in running if record.wanted and record.definition.restart != "no"])
    results = await asyncio.gather(
        *(fleet.stop(record.id, timeout_seconds=timeout_seconds) for record in running),
        return_exceptions=True,
    )
    for record, result in zip(running, results, strict=True):
        if isinstance(result, BaseException):
            logger.warning("VM %s cannot be stopped: %s", record.name, result)
    return running


async def bring_back(fleet: Fleet, comeback: Comeback) -> None:
    """Start what the host's shutdown ended. A VM that cannot be started says so itself, and keeps no other."""
    for identity in comeback.read():
        try:
            await fleet.start(identity)
        except (NotFound, WrongState):
            pass  # deleted, or started already
        except VolantError as error:
            logger.warning("cannot start VM %s after the host's shutdown: %s", identity, error.what)
    comeback.clear()
