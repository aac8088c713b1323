# SPDX-License-Identifier: Apache-2.0
"""A problem in a file that a person wrote: where it is, what is wrong, what to do.

Recipes, Dockerfiles and kestrel configs are checked as a whole, so that one run tells everything there is
to mend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from volant.errors import InvalidInput


@dataclass(frozen=True, order=True)
class Problem:
    """`line` and `column` count from 1; 0 where the whole file is meant."""

    file: str
    line: int
    column: int
    message: str
    resolution: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}"
        if self.line and self.column:
            place += f":{self.column}"
        text = f"{place}: {'warning: ' if self.severity == 'warning' else ''}{self.message}"
        return f"{text} ({self.resolution})" if self.resolution else text

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def refuse(what: str, problems: Sequence[Problem]) -> InvalidInput:
    """One error that tells all problems, in the order of the file."""
    ordered = sorted(problems)
    count = "one problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    return InvalidInput(
        f"{what}: {count}",
        details=[str(problem) for problem in ordered],
        resolution="fix the lines above; 'fledge validate' checks everything in this folder at once",
    )
