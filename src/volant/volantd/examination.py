# SPDX-License-Identifier: Apache-2.0
"""Questions about the host that take their time: asked beside each other, waited for so long and no longer.

What is not answered in time goes on beside. Whoever asks again soon gets what it has found, and so does whoever asks
again soon after an answer that took long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

from volant.contract.finding import Finding
from volant.errors import VolantError

# An answer that took longer is said to have, and kept.
LONG_SECONDS = 1.0
KEPT_SECONDS = 30.0

Probe = Callable[[], Sequence[Finding]]


class Question:
    """One probe, of which at most one runs at a time; thread-safe."""

    def __init__(self, subject: str, probe: Probe) -> None:
        self._subject = subject
        self._probe = probe
        self._lock = threading.Lock()
        self._answer: Future[Sequence[Finding]] | None = None
        self._kept_until = 0.0

    def ask(self) -> Future[Sequence[Finding]]:
        with self._lock:
            answer = self._answer
            if answer is None or (answer.done() and time.monotonic() >= self._kept_until):
                answer = self._answer = Future()
                # Who ends meanwhile waits for no probe: its programs end with us.
                threading.Thread(target=self._find_out, args=(answer,), daemon=True).start()
            return answer

    def _find_out(self, answer: Future[Sequence[Finding]]) -> None:
        started = time.monotonic()
        try:
            found = self._probe()
        except VolantError as error:
            found = [Finding(self._subject, "limited", error.what, error.resolution)]
        except BaseException as error:
            answer.set_exception(error)
            return
        took_seconds = time.monotonic() - started
        if took_seconds >= LONG_SECONDS:
            self._kept_until = time.monotonic() + KEPT_SECONDS
            found = [*(_add_time(finding, took_seconds) for finding in found[:1]), *found[1:]]
        answer.set_result(found)

    def tell_late(self, patience_seconds: float) -> Finding:
        fact = f"not found out in {patience_seconds:g} s: this host is busy, or slow at it"
        return Finding(
            self._subject, "limited", fact, "ask again: it goes on, and its answer is kept for a while"
        )


def _add_time(finding: Finding, seconds: float) -> Finding:
    return Finding(finding.subject, finding.state, f"{finding.fact} (took {seconds:.1f} s)", finding.mend)


class Examination:
    """All probes, by the subject that each is about."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._questions = [Question(subject, probe) for subject, probe in probes.items()]

    def find_all(self, patience_seconds: float | None = None) -> list[Finding]:
        """What they find, in their order; of those that are not ready in time, that. Blocking."""
        deadline = None if patience_seconds is None else time.monotonic() + patience_seconds
        asked = [(question, question.ask()) for question in self._questions]
        found: list[Finding] = []
        for question, answer in asked:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                found += answer.result(left)
            except NotYet:
                assert patience_seconds is not None
                found.append(question.tell_late(patience_seconds))
        return found
