# SPDX-License-Identifier: Apache-2.0
"""The table of the guide's cases. That it is what cases and tests say is checked with the reference."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.documented_commands import PROGRAMS, check_command

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import conformance  # noqa: E402  scripts are no package


def test_every_command_of_a_case_exists() -> None:
    _, cases = conformance.read_cases()
    commands = [text for case in cases for text in re.findall(r"`([^`]+)`", case.line)]
    ours = [text.split(" | ")[0] for text in commands if text.split(" ")[0] in PROGRAMS]
    assert len(ours) > 15
    for command in ours:
        check_command(command)


def test_cases_and_tests_that_do_not_agree_are_refused() -> None:
    case = conformance.Case("1-1", "it works", "works", "")
    with pytest.raises(conformance.ConformanceError, match="no test shows case 1-1"):
        conformance.check([case], {})
    showing = conformance.Showing("test_a.py::test_it", False)
    conformance.check([case], {"1-1": [showing]})
    with pytest.raises(conformance.ConformanceError, match="names case 1-2, which is none"):
        conformance.check([case], {"1-1": [showing], "1-2": [showing]})
    absent = conformance.Case("1-1", "it works", "absent", "why")
    with pytest.raises(conformance.ConformanceError, match="cannot run"):
        conformance.check([absent], {"1-1": [showing]})


def test_marks_are_read_with_their_test_and_their_weight(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "CASES = [pytest.param(1, marks=pytest.mark.guide('1-1'))]\n"
        "@pytest.mark.guide('1-1', '1-2')\n@pytest.mark.heavy\ndef test_it():\n    pass\n"
    )
    marks = conformance.find_marks(tmp_path)
    assert [(showing.place, showing.heavy) for showing in marks["1-1"]] == [
        ("test_a.py", False),
        ("test_a.py::test_it", True),
    ]
    assert [showing.place for showing in marks["1-2"]] == ["test_a.py::test_it"]
