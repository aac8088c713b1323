# SPDX-License-Identifier: Apache-2.0
"""Reads a Dockerfile as far as `fledge validate` needs it: instructions with their lines, nothing expanded.

Follows the Dockerfile reference: parser directives, line continuations with comments between them,
here-documents.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

KEYWORDS = frozenset(
    {
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    }
)
HEREDOC = re.compile(r"<<-?\s*[\"']?([A-Za-z0-9_]+)[\"']?")


@dataclass(frozen=True)
class Instruction:
    """One instruction: where it begins, its keyword in capitals, its flags (`--from=x`) and the rest as text."""

    line: int
    keyword: str
    flags: tuple[str, ...]
    rest: str

    def words(self) -> list[str]:
        """The rest as words: those of its JSON array, or what a shell would make of it."""
        try:
            if self.rest.startswith("[") and isinstance(array := json.loads(self.rest), list):
                return [str(word) for word in array]
        except (ValueError, RecursionError):
            pass
        try:
            return shlex.split(self.rest)
        except ValueError:
            return self.rest.split()

    def flag(self, name: str) -> str | None:
        for flag in self.flags:
            key, _, value = flag.removeprefix("--").partition("=")
            if key == name:
                return value
        return None


def read_instructions(text: str) -> list[Instruction]:
    """All instructions in order. Unknown keywords are kept, for the caller to complain about."""
    found: list[Instruction] = []
    lines = text.split("\n")  # not splitlines: a form feed ends no line
    escape = "`" if re.match(r"\s*#\s*escape\s*=\s*`", lines[0] if lines else "") else "\\"
    number = 0
    while number < len(lines):
        begin = number
        joined = lines[number].strip()
        number += 1
        if not joined or joined.startswith("#"):
            continue
        while joined.endswith(escape) and number < len(lines):
            following = lines[number].strip()
            number += 1
            if following and not following.startswith("#"):
                joined = joined[:-1].rstrip() + " " + following
        keyword, _, rest = joined.partition(" ")
        if keyword.upper() in ("RUN", "COPY", "ADD"):
            for delimiter in HEREDOC.findall(rest):
                while number < len(lines) and lines[number].strip() != delimiter:
                    number += 1
                number += 1
        flags: list[str] = []
        rest = rest.strip()
        while match := re.match(r"(--[a-z][a-z-]*(?:=\S+)?)\s+", rest):
            flags.append(match[1])
            rest = rest[match.end() :]
        found.append(Instruction(begin + 1, keyword.upper(), tuple(flags), rest))
    return found
