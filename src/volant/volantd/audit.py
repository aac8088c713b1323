# SPDX-License-Identifier: Apache-2.0
"""The audit log: who changed what, when and with which result; JSON lines in files of the state folder, rotated.

Each change has two lines: `received` before anything is done, so that a daemon that is killed in between hides nothing,
and `complete` with the result. No database holds them, so a full one, or one that is lost, keeps nobody from writing.
"""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from volant.volantd.clock import now

logger = logging.getLogger(__name__)

FILE_BYTES, KEPT_FILES = 4 << 20, 4
MOST_TEXT = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`action` names the operation as the API's description does; `status` 0: not known, the daemon ended before."""

    time: str
    request_id: str
    who: str
    action: str
    target: str = ""
    status: int = 0
    error: str = ""
    milliseconds: int = 0


Stage = Literal["received", "complete"]


class AuditLog:
    def __init__(self, path: Path, *, file_bytes: int = FILE_BYTES, kept_files: int = KEPT_FILES) -> None:
        self._path = path
        self._kept_files = kept_files
        self._handler = _PrivateFile(
            path, maxBytes=file_bytes, backupCount=kept_files, encoding="utf-8", errors="backslashreplace", delay=True
        )  # fmt: skip

    def add(self, stage: Stage, entry: AuditEntry) -> None:
        """Written when this returns. What cannot be written is told in the daemon's log, and stops nobody."""
        line = json.dumps({"stage": stage, **_shorten(asdict(entry))})
        self._handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, line, None, None))

    def read(self, limit: int, target: str = "") -> list[AuditEntry]:
        """The newest `limit` changes, oldest first."""
        found: deque[AuditEntry] = deque(maxlen=limit)
        open_entries: dict[str, AuditEntry] = {}
        for stage, entry in self._walk():
            if stage == "received":
                open_entries[entry.request_id] = entry
                continue
            open_entries.pop(entry.request_id, None)
            if target in ("", entry.target):
                found.append(entry)
        cut_off = [entry for entry in open_entries.values() if target in ("", entry.target)]
        return sorted([*found, *cut_off], key=lambda entry: entry.time)[-limit:] if limit else []

    def _walk(self) -> Iterator[tuple[Stage, AuditEntry]]:
        older = [Path(f"{self._path}.{number}") for number in range(self._kept_files, 0, -1)]
        for path in (*older, self._path):
            try:
                stream = path.open(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                continue
            with stream:
                for line in stream:
                    try:
                        fields = json.loads(line)
                        yield fields.pop("stage"), AuditEntry(**fields)
                    except (ValueError, TypeError, KeyError, AttributeError):
                        continue  # cut off by a kill or a full disk

    def close(self) -> None:
        self._handler.close()


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Readable by its owner alone, whatever the umask; begins a line of its own after one that was cut off."""

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(
            self.baseFilename, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )  # fmt: skip
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        return open(descriptor, "a", encoding=self.encoding, errors=self.errors)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        logger.exception("the audit log cannot be written: %s", record.getMessage())


def _shorten(fields: dict[str, object]) -> dict[str, object]:
    return {name: value[:MOST_TEXT] if isinstance(value, str) else value for name, value in fields.items()}


def make_entry(request_id: str, who: str, action: str, target: str) -> AuditEntry:
    return AuditEntry(now(), request_id, who, action, target)
