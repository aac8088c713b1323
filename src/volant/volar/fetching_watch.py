# SPDX-License-Identifier: Apache-2.0
"""What the daemon fetches for a VM that is being created: told where that takes long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from volant.errors import VolantError
from volant.sizes import show_size

if TYPE_CHECKING:
    from volant.client.client import Client
    from volant.contract.api_types import Event

PATIENCE_SECONDS = 3.0
KIND = "fetching"


@contextmanager
def telling_fetches(client: Client, name: str, tell: Callable[[str], object]) -> Iterator[None]:
    """Most VMs are there before anything is asked for."""
    over = threading.Event()

    def follow() -> None:
        with suppress(VolantError, OSError):
            for event in client.events(vm=name, follow=True):
                if over.is_set():
                    return
                if event["kind"] == KIND:
                    tell(f"{name}: {describe_fetch(event)}")

    timer = threading.Timer(PATIENCE_SECONDS, follow)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        over.set()
        timer.cancel()


def describe_fetch(event: Event) -> str:
    data = event["data"]
    total = f" of {show_size(data['total_bytes'])}" if data.get("total_bytes") else ""
    return f"disk {data['disk']}: fetched {show_size(data['done_bytes'])}{total}"
