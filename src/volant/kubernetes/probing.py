# SPDX-License-Identifier: Apache-2.0
"""The probes of one pod with Kubernetes' thresholds: startup first, then liveness and readiness side by side.

They begin anew with every run of the workload. What they find is read by the pod's worker, which they wake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from lightkube.models.core_v1 import Container, Probe

from volant.kubernetes.probes import Attempt

DEFAULT_PERIOD_SECONDS, DEFAULT_FAILURES = 10, 3
Kind = Literal["startup", "liveness", "readiness"]
# Told of a probe that failed, with the reason.
Tell = Callable[[Kind, str], Awaitable[None]]


@dataclass
class Verdict:
    """What several attempts in a row say together."""

    is_good: bool
    failure_threshold: int = DEFAULT_FAILURES
    success_threshold: int = 1
    _last: bool | None = None
    _run: int = 0

    def take(self, succeeded: bool) -> bool:
        """One attempt more; whether a threshold has been reached with it, or is still."""
        self._run = self._run + 1 if succeeded == self._last else 1
        self._last = succeeded
        if self._run < (self.success_threshold if succeeded else self.failure_threshold):
            return False
        self.is_good = succeeded
        return True

    @property
    def is_first_failure(self) -> bool:
        return self._last is False and self._run == 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A run of the workload that is to end, since a probe says so."""

    kind: Kind
    reason: str
    grace_seconds: int | None


class Prober:
    """`follow` while the workload runs, `stop` when it does not."""

    def __init__(self, container: Container, attempt: Attempt, wake: Callable[[], None], tell: Tell) -> None:
        self._probes: dict[Kind, Probe | None] = {
            "startup": container.startupProbe,
            "liveness": container.livenessProbe,
            "readiness": container.readinessProbe,
        }
        self._attempt = attempt
        self._wake = wake
        self._tell = tell
        self._run = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._begin("")

    @property
    def is_ready(self) -> bool | None:
        """Whether the readiness probe says so; None: there is none."""
        return self._ready.is_good if self._probes["readiness"] is not None else None

    def follow(self, run: str) -> None:
        """Probe this run of the workload, from its beginning where it is another than before."""
        if run == self._run:
            return
        self.stop()
        self._begin(run)
        self._tasks = [
            asyncio.create_task(self._watch(kind, probe))
            for kind, probe in self._probes.items()
            if probe is not None
        ]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._begin("")

    def _begin(self, run: str) -> None:
        self._run = run
        self.failure: Failure | None = None
        self.is_started = self._probes["startup"] is None
        self._started = asyncio.Event()
        if self.is_started:
            self._started.set()
        readiness = self._probes["readiness"]
        self._ready = Verdict(False) if readiness is None else _make_verdict(readiness, is_good=False)

    async def _watch(self, kind: Kind, probe: Probe) -> None:
        verdict = self._ready if kind == "readiness" else _make_verdict(probe, is_good=kind == "liveness")
        await asyncio.sleep(probe.initialDelaySeconds or 0)
        if kind != "startup":
            await self._started.wait()
        while True:
            was_good = verdict.is_good
            problem = await self._attempt(probe)
            is_decided = verdict.take(not problem)
            if problem and verdict.is_first_failure:
                await self._tell(kind, problem)
            if is_decided and problem and kind != "readiness":
                self.failure = Failure(kind, problem, probe.terminationGracePeriodSeconds)
                self._wake()
                return
            if is_decided and kind == "startup":
                self.is_started = True
                self._started.set()
                self._wake()
                return
            if verdict.is_good != was_good:
                self._wake()
            await asyncio.sleep(probe.periodSeconds or DEFAULT_PERIOD_SECONDS)


def _make_verdict(probe: Probe, *, is_good: bool) -> Verdict:
    return Verdict(is_good, probe.failureThreshold or DEFAULT_FAILURES, probe.successThreshold or 1)
