# SPDX-License-Identifier: Apache-2.0
"""Run tests/kvm until one machine passes them, and say what became of each: `kvm_machines.py OPTION… PYTEST-ARGUMENT…`.

Tests that end with NO_VERDICT were told what the emulated processor did to them; the next machine tries them again, as
often as `--machines` and `--minutes` allow. Any other failure is taken for ours. `--failures 1` gives it one more
machine, for a busy host, on which more is lost than is told; that it came and went is said at the end, since a fault of
ours may do so, too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

NO_VERDICT = 75
"""The exit code of tests to which the machine did what is not ours (EX_TEMPFAIL)."""
FOLDER = Path(__file__).resolve().parents[1] / "kvm"
WORDS_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one machine said; `failed`: each test that did, with its first words."""

    exit_code: int
    seconds: float
    passed: int
    failed: tuple[str, ...]

    def describe(self) -> str:
        verdict = {0: "passed", NO_VERDICT: "no verdict, the emulated processor lost a guest or the machine"}
        words = verdict.get(self.exit_code, f"FAILED (exit code {self.exit_code})")
        return f"{words}; {self.passed} tests passed in {self.seconds:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--machines", type=int, default=2, help="at most so many")
    parser.add_argument("--failures", type=int, default=0, help="so many may fail before one that passes")
    parser.add_argument("--minutes", type=float, default=60.0, help="none is begun after so many")
    options, passed_on = parser.parse_known_args(arguments)
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(FOLDER), *passed_on]
    outcomes = try_machines(command, options.machines, options.failures, options.minutes * 60)
    print("\n".join(summarize(outcomes)), flush=True)
    return outcomes[-1].exit_code


def try_machines(command: Sequence[str], machines: int, failures: int, most_seconds: float) -> list[Outcome]:
    began = time.monotonic()
    outcomes: list[Outcome] = []
    while True:
        outcomes.append(try_machine(command))
        if outcomes[-1].exit_code == 0 or not wants_another(outcomes, machines, failures):
            return outcomes
        if time.monotonic() - began > most_seconds:
            print("no further machine: the time for them is over", flush=True)
            return outcomes
        print(f"=== machine {len(outcomes)}: {outcomes[-1].describe()}: another one ===", flush=True)


def wants_another(outcomes: Sequence[Outcome], machines: int, failures: int) -> bool:
    failed = sum(outcome.exit_code != NO_VERDICT for outcome in outcomes)
    return len(outcomes) < machines and failed <= failures


def try_machine(command: Sequence[str]) -> Outcome:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="volant-kvm-") as folder:
        report = Path(folder) / "report.xml"
        exit_code = subprocess.run([*command, f"--junit-xml={report}"], check=False).returncode
        passed, failed = read_report(report)
    return Outcome(exit_code, time.monotonic() - began, passed, failed)


def read_report(path: Path) -> tuple[int, tuple[str, ...]]:
    """How many tests passed, and which did not; nothing of a run that ended before it wrote its report."""
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return 0, ()
    passed, failed = 0, []
    for case in cases:
        problem = next(
            (found for kind in ("failure", "error") if (found := case.find(kind)) is not None), None
        )
        if problem is not None:
            words = " ".join(problem.get("message", "").split())[:WORDS_LIMIT]
            failed.append(f"{case.get('name')}: {words}")
        elif case.find("skipped") is None:
            passed += 1
    return passed, tuple(failed)


def summarize(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["", "=== the line on KVM, machine by machine ==="]
    for number, outcome in enumerate(outcomes, start=1):
        lines.append(f"machine {number}: {outcome.describe()}")
        lines += [f"    {failed}" for failed in outcome.failed]
    failed = [
        number for number, outcome in enumerate(outcomes, 1) if outcome.exit_code not in (0, NO_VERDICT)
    ]
    if failed and outcomes[-1].exit_code == 0:
        lines.append(
            f"WARNING: machine {len(outcomes)} passed what machine {failed[0]} failed, and nothing told of a loss:"
            " either the host was too busy, or a fault of ours comes and goes"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
