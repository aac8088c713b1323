# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from volant.contract.finding import Finding
from volant.errors import ToolFailed
from volant.volantd import examination
from volant.volantd.examination import Examination


def find(subject: str) -> Sequence[Finding]:
    return [Finding(subject, "ok", "it does")]


def test_probes_run_beside_each_other_and_are_told_in_their_order() -> None:
    both = threading.Barrier(2, timeout=60)

    def meet(subject: str) -> Sequence[Finding]:
        both.wait()
        return find(subject)

    found = Examination({"one": lambda: meet("one"), "two": lambda: meet("two")}).find_all()
    assert [finding.subject for finding in found] == ["one", "two"]


def test_what_is_not_found_in_time_is_told_so_and_there_for_who_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examination, "LONG_SECONDS", 0.0)
    free, asked = threading.Event(), 0

    def take_long() -> Sequence[Finding]:
        nonlocal asked
        asked += 1
        assert free.wait(60)
        return find("slow")

    examined = Examination({"slow": take_long, "quick": lambda: find("quick")})
    slow, quick = examined.find_all(0.05)
    assert (slow.subject, slow.state) == ("slow", "limited")
    assert slow.fact.startswith("not found out in 0.05 s")
    assert quick.subject == "quick"
    free.set()
    for _ in range(2):  # while it runs, and of what is kept
        assert examined.find_all()[0].fact.startswith("it does (took 0.")
    assert asked == 1
    monkeypatch.setattr(examination, "KEPT_SECONDS", 0.0)
    Examination({"slow": take_long}).find_all()
    assert asked == 2


def test_an_answer_that_was_quick_is_found_anew() -> None:
    asked = 0

    def count() -> Sequence[Finding]:
        nonlocal asked
        asked += 1
        return find("quick")

    examined = Examination({"quick": count})
    assert examined.find_all() == examined.find_all() == list(find("quick"))
    assert asked == 2


def test_a_probe_that_fails_is_a_finding_and_a_defect_is_one() -> None:
    def fail(error: Exception) -> Sequence[Finding]:
        raise error

    failing = Examination({"this": lambda: fail(ToolFailed("cannot do it", resolution="do that"))})
    assert failing.find_all() == [Finding("this", "limited", "cannot do it", "do that")]
    with pytest.raises(ZeroDivisionError):
        Examination({"this": lambda: fail(ZeroDivisionError())}).find_all()
