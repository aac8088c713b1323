# SPDX-License-Identifier: Apache-2.0
"""VMs that sleep on the disk and go on, as part of the start's bench.

start-resume-vs-cold  `volar vms resume` to the first HTTP 200, over `volar vms create` to the first
start-wake-vs-cold    first byte of the request that wakes a VM, over the same
"""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Sequence
from typing import Protocol

from bench.results import ratio


class Host(Protocol):
    def volar(self, *arguments: str) -> str: ...

    def vm(self, name: str) -> dict[str, object]: ...

    def seconds_to_page(self, name: str, *command: str) -> float: ...


class Sleepers:
    """Two VMs: one that people wake, one that a connection wakes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._resumed: list[float] = []
        self._woken: list[float] = []
        host.volar("vms", "create", "sleeper", "--plugin", "nginx")
        host.volar("vms", "create", "waker", "--plugin", "nginx", "--suspend-when-idle", "1d")

    def sleep_once(self) -> str:
        """One round; what it was, for people."""
        self._host.volar("vms", "suspend", "sleeper", "waker")
        self._resumed.append(self._host.seconds_to_page("sleeper", "vms", "resume", "sleeper"))
        url = str(self._host.vm("waker")["url"])
        began = time.perf_counter()
        with urllib.request.urlopen(f"{url}/", timeout=120) as reply:
            reply.read(1)
        self._woken.append(time.perf_counter() - began)
        return f"resume {self._resumed[-1]:.2f} s, wake {self._woken[-1]:.2f} s"

    def print_ratios(self, cold: Sequence[float]) -> None:
        for name, seconds in (("resume", self._resumed), ("wake", self._woken)):
            ratio(f"start-{name}-vs-cold", statistics.median(seconds) / statistics.median(cold))
