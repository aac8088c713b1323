# SPDX-License-Identifier: Apache-2.0
"""The host's copy of what a guest's processes wrote: it answers when the guest no longer can.

JSON lines {cursor, time, process, stream, line, boot} in two halves: when `process.log` is full it becomes
`process.log.1`, so between one and two times the limit is kept. The last line says where in the agent's own log
(whose cursors count within one boot) to go on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from volant.contract.agent import LogEntry
from volant.errors import InvalidInput

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogLine:
    time: str
    process: str
    stream: str
    line: str


class ProcessLog:
    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._older = path.with_name(path.name + ".1")
        self._limit_bytes = limit_bytes
        self._appended = asyncio.Event()
        # Counts lines ever appended by this object, so that followers know what is new to them.
        self._generation = 0

    def append(self, boot_id: str, entries: Iterable[LogEntry]) -> None:
        lines = [
            json.dumps({**entry.model_dump(), "boot": boot_id}, separators=(",", ":")) for entry in entries
        ]
        if not lines:
            return
        try:
            self._write(lines)
        except OSError as error:
            # The guest keeps its own log; the connection is worth more than a line on a full disk.
            logger.warning("%s: %d lines are lost: %s", self._path, len(lines), error.strerror)
            return
        appended, self._appended = self._appended, asyncio.Event()
        appended.set()

    def _write(self, lines: list[str]) -> None:
        if self._path.exists() and self._path.stat().st_size > self._limit_bytes:
            os.replace(self._path, self._older)
            self._generation += 1
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            # A kill in the middle of a write leaves half a line: never glue another one to it.
            size = stream.seek(0, os.SEEK_END)
            if size and os.pread(stream.fileno(), 1, size - 1) != b"\n":
                stream.write(b"\n")
            stream.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))

    def find_cursor(self, boot_id: str) -> str:
        """The cursor of the last line that came from this boot of the guest, or "": from the beginning."""
        last: dict[str, str] | None = None
        for record in self._records():
            last = record
        return last["cursor"] if last is not None and last.get("boot") == boot_id else ""

    def read(self, *, process: str = "", since: str = "", tail: int | None = None) -> list[LogLine]:
        lines = [_make_line(record) for record in self._records() if _is_wanted(record, process, since)]
        return lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]

    async def follow(
        self, *, process: str = "", since: str = "", tail: int | None = None
    ) -> AsyncIterator[LogLine]:
        """The lines there are and then those that come, without end."""
        position = self._position()
        for line in self.read(process=process, since=since, tail=tail):
            yield line
        while True:
            appended = self._appended
            lines, position = self._read_from(position)
            for record in lines:
                if _is_wanted(record, process, since):
                    yield _make_line(record)
            if not lines:
                await appended.wait()

    def _position(self) -> tuple[int, int]:
        return self._generation, self._path.stat().st_size if self._path.exists() else 0

    def _read_from(self, position: tuple[int, int]) -> tuple[list[dict[str, str]], tuple[int, int]]:
        generation, offset = position
        records: list[dict[str, str]] = []
        if generation != self._generation:
            records += _parse(self._older, offset if generation == self._generation - 1 else 0)
            offset = 0
        end = self._position()
        if end[1] > offset:
            records += _parse(self._path, offset)
        return records, end

    def _records(self) -> Iterator[dict[str, str]]:
        yield from _parse(self._older, 0)
        yield from _parse(self._path, 0)


def _parse(path: Path, offset: int) -> Iterator[dict[str, str]]:
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        for raw in stream:
            try:
                record = json.loads(raw)
            except ValueError:
                continue  # half a line, from a kill in the middle of a write
            if isinstance(record, dict) and "line" in record:
                yield record


def _is_wanted(record: dict[str, str], process: str, since: str) -> bool:
    return (not process or record["process"] == process) and (not since or record["time"] >= since)


def _make_line(record: dict[str, str]) -> LogLine:
    return LogLine(record["time"], record["process"], record["stream"], record["line"])


def read_since(text: str) -> str:
    """`since` as people give it (10m, 2h, an RFC 3339 time) as a time that compares with those in the log."""
    if not text:
        return ""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    ago = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    try:
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(seconds=float(ago[1]) * units[ago[2]])
        else:
            moment = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: before the year 1 or after 9999
        raise InvalidInput(
            f"cannot read the time {text!r}", resolution="give 30s, 10m, 2h, 1d or 2026-01-31T12:00:00Z"
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
