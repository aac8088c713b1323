# SPDX-License-Identifier: Apache-2.0
"""What a .dockerignore keeps out of a build, by Docker's rule, which podman and buildah follow too.

Each pattern is matched against the whole path below the context, as Go's filepath.Match does with `**` added: `*.log`
is the top folder's only, and a pattern that names a folder takes all below it. `!` brings back; the last match wins.
See docs.docker.com, "Build context: .dockerignore files".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# In the order in which builders look for them in a context; the first is podman's and buildah's alone.
NAMES = (".containerignore", ".dockerignore")


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    brings_back: bool


@dataclass(frozen=True)
class IgnoreFile:
    """The rules of one file, and its path for people."""

    path: Path | None = None
    rules: Sequence[_Rule] = ()

    def ignores(self, path: str) -> bool:
        """Whether a path below the context, with slashes and without `./`, is kept out of the build."""
        is_out = False
        parents = [path]
        while "/" in parents[-1]:
            parents.append(parents[-1].rpartition("/")[0])
        for rule in self.rules:
            if rule.brings_back == is_out and any(map(rule.pattern.fullmatch, parents)):
                is_out = not rule.brings_back
        return is_out


def read_ignore_file(dockerfile: Path, context: Path) -> IgnoreFile:
    """The ignore file that goes with a Dockerfile: its own, else the context's; without any, nothing is ignored."""
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    for path in (own, *(context / name for name in NAMES)):
        if path.is_file():
            try:
                return IgnoreFile(path, tuple(_parse(path.read_text(encoding="utf-8-sig"))))
            except (OSError, UnicodeDecodeError):
                return IgnoreFile(path)
    return IgnoreFile()


def _parse(text: str) -> list[_Rule]:
    rules: list[_Rule] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        brings_back = pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip() or ".").lstrip("/")
        if pattern not in ("", "."):
            rules.append(_Rule(_translate(pattern), brings_back))
    return rules


def _translate_set(inside: str) -> str:
    """What stands between brackets: `a-z` and `^` mean what they say, all else itself."""
    negation = "^" if inside.startswith(("^", "!")) else ""
    members = re.sub(r"[^-\w]", lambda match: f"\\{match[0]}", inside[len(negation) :])
    return f"[{negation}{members}]"


def _translate(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match with `**`, as a regular expression; one that cannot be read matches nothing."""
    # One says as much as many, and costs no backtracking.
    pattern = re.sub(r"\*{3,}", "**", re.sub(r"(\*\*/)+", "**/", pattern))
    expression, position = "", 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if pattern.startswith("**", position - 1):
            position += 1
            if pattern.startswith("/", position):
                position += 1
                expression += "(.*/)?"
            else:
                expression += ".*"
        elif character == "*":
            expression += "[^/]*"
        elif character == "?":
            expression += "[^/]"
        elif character == "[":
            end = pattern.find("]", position + 1)
            if end < 0:
                return re.compile(r"(?!)")
            expression += _translate_set(pattern[position:end])
            position = end + 1
        elif character == "\\" and position < len(pattern):
            expression += re.escape(pattern[position])
            position += 1
        else:
            expression += re.escape(character)
    try:
        return re.compile(expression, re.DOTALL)
    except re.error:
        return re.compile(r"(?!)")
