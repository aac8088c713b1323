# SPDX-License-Identifier: Apache-2.0
"""`kubectl logs`: the lines of a VM's workload, as the API server asks a node for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from volant.client import AsyncClient
from volant.contract.api_types import Vm
from volant.kubernetes.runs import find_began

# Longer ago than any line, and no overflow.
MOST_SINCE_SECONDS = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What may be asked for (core/v1 PodLogOptions)."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: str | None = None
    most_bytes: int | None = None


def read_options(query: dict[str, str]) -> LogOptions:
    """Raises ValueError."""
    since = query.get("sinceTime")
    if seconds := query.get("sinceSeconds"):
        ago = timedelta(seconds=min(int(seconds), MOST_SINCE_SECONDS))
        since = (datetime.now(UTC) - ago).isoformat().replace("+00:00", "Z")
    return LogOptions(
        follow=query.get("follow") == "true", previous=query.get("previous") == "true",
        timestamps=query.get("timestamps") == "true",
        tail=int(query["tailLines"]) if query.get("tailLines") else None, since=since,
        most_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
    )  # fmt: skip


async def read_lines(
    client: AsyncClient, vm: Vm, options: LogOptions, before: datetime | None = None
) -> AsyncIterator[bytes]:
    """Lines of this run of the workload, or with `previous` of the one before, which began at `before`."""
    began, left = _to_instant(find_began(vm)), options.most_bytes
    lines = client.logs(
        vm["name"], follow=options.follow and not options.previous, since=options.since,
        tail=None if options.previous else options.tail,
    )  # fmt: skip
    kept: list[bytes] = []
    async for line in lines:
        written = _to_instant(line["time"])
        if line["stream"] == "agent" or (written < began) != options.previous:
            continue
        if options.previous and before is not None and written < before:
            continue
        content = (f"{line['time']} " if options.timestamps else "").encode() + line["line"].encode() + b"\n"
        if options.previous and options.tail is not None:
            kept = [*kept, content][-options.tail :] if options.tail else []
            continue
        if left is not None:
            content, left = content[:left], left - len(content)
        yield content
        if left is not None and left <= 0:
            return
    for content in kept:
        yield content


def _to_instant(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)
