# SPDX-License-Identifier: Apache-2.0
"""What `fledge doctor` and `volar doctor` say of a machine: the one passes its findings to the other as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "limited", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`missing` keeps something from working at all; `limited` only makes it slower or less able."""

    subject: str
    state: State
    fact: str
    mend: str = ""


def format_findings(findings: Sequence[Finding], output_format: str) -> str:
    """A table for people, or JSON."""
    if output_format == "json":
        return json.dumps([asdict(finding) for finding in findings], indent=2)
    width = max((len(finding.subject) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.subject:<{width}}  {finding.fact}")
        if finding.mend:
            lines.append(f"{'':<8} {'':<{width}}  try: {finding.mend}")
    return "\n".join(lines)


def parse_findings(text: str) -> list[Finding]:
    """Findings that another program printed as JSON; ValueError where it is none."""
    try:
        found = [Finding(**fields) for fields in json.loads(text)]
    except TypeError as error:
        raise ValueError(str(error)) from error
    if any(finding.state not in ("ok", "limited", "missing") for finding in found):
        raise ValueError("a state that is none")
    return found
