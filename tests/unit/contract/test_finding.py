# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.contract.finding import Finding, format_findings, parse_findings

FINDINGS = [Finding("kernel", "ok", "6.1"), Finding("image builder", "missing", "none", "install one")]


def test_findings_survive_their_way_to_another_program() -> None:
    assert parse_findings(format_findings(FINDINGS, "json")) == FINDINGS


def test_a_table_for_people() -> None:
    assert format_findings(FINDINGS, "table").splitlines() == [
        "ok       kernel         6.1",
        "missing  image builder  none",
        "                        try: install one",
    ]


@pytest.mark.parametrize(
    "text", ["", "{}x", "3", '[{"subject": "x"}]', '[{"subject": "x", "state": "bad", "fact": ""}]']
)
def test_what_is_no_list_of_findings_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_findings(text)
