# SPDX-License-Identifier: Apache-2.0
"""`kubectl logs`: the lines of a VM's workload, as the API server asks a node for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from volant.client import AsyncClient
from volant.contract.api_types import Vm


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
        since = (datetime.now(UTC) - timedelta(seconds=int(seconds))).isoformat().replace("+00:00", "Z")
    return LogOptions(
        follow=query.get("follow") == "true", previous=query.get("previous") == "true",
        timestamps=query.get("timestamps") == "true",
        tail=int(query["tailLines"]) if query.get("tailLines") else None, since=since,
        most_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
    )  # fmt: skip


async def read_lines(client: AsyncClient, vm: Vm, options: LogOptions) -> AsyncIterator[bytes]:
    """Lines of this start of the VM, or with `previous` of those before."""
    started, left = vm["started_at"] or "", options.most_bytes
    lines = client.logs(
        vm["name"], follow=options.follow and not options.previous, since=options.since,
        tail=None if options.previous else options.tail,
    )  # fmt: skip
    kept: list[bytes] = []
    async for line in lines:
        if line["stream"] == "agent" or (line["time"] < started) != options.previous:
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
