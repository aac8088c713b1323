# SPDX-License-Identifier: Apache-2.0
"""Which machines the tests on KVM get, and what is said of each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import kvm_machines
from support.kvm_machines import NO_VERDICT, Outcome, read_report, summarize, try_machines

REPORT = """<testsuites><testsuite>
<testcase name="test_boots"/><testcase name="test_skipped"><skipped/></testcase>
<testcase name="test_clock"><failure message="assert 1 ==\n 2">traceback</failure></testcase>
</testsuite></testsuites>"""


def play(tmp_path: Path, codes: list[int], **allowed: float) -> list[int]:
    """The exit codes of the machines that were made where they end one after the other with these."""
    script = tmp_path / "pytest.py"
    script.write_text(
        "import pathlib, sys\n"
        f"left = pathlib.Path({str(tmp_path / 'codes')!r})\n"
        "first, *rest = left.read_text().split()\n"
        "left.write_text(' '.join(rest))\n"
        "sys.exit(int(first))\n"
    )
    (tmp_path / "codes").write_text(" ".join(map(str, codes)))
    limits = {"machines": 4, "failures": 1, "most_seconds": 3600.0, **allowed}
    outcomes = try_machines([sys.executable, str(script)], **limits)  # type: ignore[arg-type]  # of one type each
    return [outcome.exit_code for outcome in outcomes]


@pytest.mark.parametrize(
    ("codes", "tried"),
    [
        ([0], 1),
        ([NO_VERDICT, NO_VERDICT, 0], 3),
        ([NO_VERDICT] * 9, 4),
        ([1, 0], 2),
        ([1, 1, 0], 2),
        ([1, NO_VERDICT, 0], 3),
        ([NO_VERDICT, 1, NO_VERDICT, 1, 0], 4),
    ],
)
def test_a_loss_gets_another_machine_and_a_failure_one_more(
    tmp_path: Path, codes: list[int], tried: int
) -> None:
    assert play(tmp_path, codes) == codes[:tried]


def test_a_failure_is_final_where_none_is_allowed(tmp_path: Path) -> None:
    assert play(tmp_path, [1, 0], failures=0) == [1]
    assert play(tmp_path, [NO_VERDICT, 1, 0], failures=0) == [NO_VERDICT, 1]


def test_no_machine_is_begun_after_the_time(tmp_path: Path) -> None:
    assert play(tmp_path, [NO_VERDICT, 0], most_seconds=-1) == [NO_VERDICT]


def test_a_report_names_what_failed(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert read_report(tmp_path / "report.xml") == (1, ("test_clock: assert 1 == 2",))
    assert read_report(tmp_path / "none.xml") == (0, ())


def test_what_failed_on_one_machine_and_passed_on_the_next_is_said_aloud() -> None:
    lines = "\n".join(summarize([Outcome(1, 60, 3, ("test_clock: late",)), Outcome(0, 70, 6, ())]))
    assert "machine 1: FAILED (exit code 1); 3 tests passed in 60 s\n    test_clock: late\n" in lines
    assert "machine 2: passed; 6 tests passed in 70 s\n" in lines
    assert "WARNING: machine 2 passed what machine 1 failed" in lines


@pytest.mark.parametrize("codes", [[0], [NO_VERDICT, 0], [1], [1, 1], [NO_VERDICT]])
def test_nothing_is_warned_of_where_nothing_came_and_went(codes: list[int]) -> None:
    assert "WARNING" not in "\n".join(summarize([Outcome(code, 1, 0, ()) for code in codes]))


def test_its_exit_code_is_the_last_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def play_back(command: list[str], *limits: object) -> list[Outcome]:
        assert command[-2:] == ["-m", "heavy"]
        assert limits == (3, 1, 1200.0)
        return [Outcome(1, 1, 0, ()), Outcome(NO_VERDICT, 1, 0, ())]

    monkeypatch.setattr(kvm_machines, "try_machines", play_back)
    options = ["--machines", "3", "--failures", "1", "--minutes", "20", "-m", "heavy"]
    assert kvm_machines.main(options) == NO_VERDICT
