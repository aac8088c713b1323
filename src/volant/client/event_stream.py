# SPDX-License-Identifier: Apache-2.0
"""Server-sent events, read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from volant.digits import is_whole_number

if TYPE_CHECKING:
    from volant.contract.api_types import Event


class EventReader:
    """Server-sent events (HTML standard, section 9.2). `last_id` is that of the newest, over all streams read."""

    def __init__(self) -> None:
        self.last_id: int | None = None

    def read(self, reply: Iterable[bytes]) -> Iterator[Event]:
        """The data of each event."""
        data: list[str] = []
        for raw in reply:
            line = raw.decode().rstrip("\r\n")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "id" and is_whole_number(value):
                self.last_id = int(value)
            elif not line and data:
                yield json.loads("\n".join(data))
                data = []
