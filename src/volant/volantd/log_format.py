# SPDX-License-Identifier: Apache-2.0
"""How the daemon's log lines look: text for people, the journal's form where systemd reads them, or JSON.

Each line of a request has its id, which the reply's X-Request-Id and the error's `request_id` tell too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

from volant.volantd.request_context import find_request_id

LogFormat = Literal["auto", "text", "journal", "json"]
# sd-daemon(3): a line's priority, as syslog counts.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def setup_logging(level: str, chosen: LogFormat) -> None:
    """For the whole process, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(make_formatter(chosen, sys.stderr))
    handler.addFilter(add_request_id)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def make_formatter(
    chosen: LogFormat, stream: TextIO, environment: Mapping[str, str] = os.environ
) -> logging.Formatter:
    if chosen == "auto":
        chosen = "journal" if is_journal(stream, environment) else "text"
    match chosen:
        case "json":
            return JsonFormatter()
        case "journal":
            return JournalFormatter("%(message)s%(request_suffix)s")
        case _:
            return logging.Formatter("%(asctime)s %(levelname)s %(message)s%(request_suffix)s")


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether systemd's journal reads this stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def add_request_id(record: logging.LogRecord) -> bool:
    """A filter that lets everything through."""
    identity = find_request_id()
    record.request_id = identity
    record.request_suffix = f" [{identity}]" if identity else ""
    return True


class JournalFormatter(logging.Formatter):
    """The journal knows the time; a record of several lines is several entries of one priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One object a line; what is empty is left out."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", ""),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
        }
        return json.dumps({name: value for name, value in fields.items() if value}, ensure_ascii=True)
