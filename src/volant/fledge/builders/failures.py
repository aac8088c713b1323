# SPDX-License-Identifier: Apache-2.0
"""What builders write: which lines are for people, and what a failed build comes to.

A step that fails is told once: its own output as it comes, then one error of ours that names the step. What the
builder says of the failure itself, and docker's second copy of the step's output, is kept back for that error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from volant.errors import StorageFull, ToolFailed, VolantError

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_DOTS = re.compile(r"\s*\d+K [ .]+ +\d+% ")
_KEPT_LINES = 400
# A base that cannot be had: nothing in the Dockerfile's steps is to be mended then.
_NO_BASE = re.compile(
    r"initializing source|pinging container registry|pull access denied|manifest unknown|failed to resolve source|"
    r"no such image|error pulling image",
    re.IGNORECASE,
)
_BUILDAH_STEP = re.compile(r'(?:building|build error) at STEP "(.*?)": ?(.*)')
_DOCKER_STEP = re.compile(r"The command '/bin/sh -c (.*)' returned a non-zero code: (\d+)")
_BUILDKIT_STEP = re.compile(r'process "(?:/bin/sh -c )?(.*)" did not complete successfully: (.*)')
# The builder's account of a failed step, which begins with nothing of the step's own.
_ACCOUNT = re.compile(
    r"(Error: )?(error )?(building|build error) at STEP|The command '.*' returned a non-zero code|"
    r"(#\d+ )?ERROR: (failed to (build|solve): )?process |subprocess exited with status \d+"
)


class Transcript:
    """The output of one build. `hear` takes a line and returns what of it is for people, or None."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = secrets
        self._lines: list[str] = []
        self._kept_back: list[str] = []
        self._has_failed = False

    def hear(self, line: str) -> str | None:
        # Progress bars that were meant for a terminal: their last state, and none of wget's dots.
        line = _COLOURS.sub("", line).rpartition("\r")[2]
        if _DOTS.match(line):
            return None
        for secret in self._secrets:
            line = line.replace(secret, "***")
        self._lines.append(line)
        del self._lines[:-_KEPT_LINES]
        if _ACCOUNT.match(line) or (self._has_failed and line.startswith("------")) or self._is_excerpt():
            self._has_failed = True
            self._kept_back.append(line)
            return None
        return line

    def keep(self, line: str) -> None:
        """As `hear`, where nobody is to see anything."""
        self.hear(line)

    def _is_excerpt(self) -> bool:
        """Whether docker shows the end of the step again: from a ruler after the failure to the end."""
        return any(line.startswith("------") for line in self._kept_back)

    def find_failed_step(self) -> str:
        """The step that failed, in words, as each of the three builders tells it; empty where none did."""
        for line in reversed(self._lines):
            if match := _BUILDAH_STEP.search(line):
                return f"step '{_shorten(match[1])}' failed ({match[2].split(': ')[-1] or 'see below'})"
            if match := _DOCKER_STEP.search(line):
                return f"step 'RUN {_shorten(match[1])}' failed (exit status {match[2]})"
            if match := _BUILDKIT_STEP.search(line):
                return f"step 'RUN {_shorten(match[1])}' failed ({match[2]})"
        return ""

    def make_error(
        self, dockerfile: str, builder: str, ended: str, command: str, *, is_shown: bool
    ) -> VolantError:
        """The error of a build that failed. `is_shown`: people have seen the lines that `hear` returned."""
        step = self.find_failed_step()
        details = (self._kept_back if not step else []) if is_shown else self._last_lines()
        resolution = f"correct the step and build again; finished steps stay in {builder}'s cache"
        if any(map(_NO_BASE.search, self._lines)):
            resolution = (
                "check the base image's name and tag, the network and, for a private registry, your login"
            )
        return recognize(
            ToolFailed(
                f"cannot build {dockerfile}: {step or f'{builder} ended with {ended}'}",
                details=[*details, f"command: {command}"],
                resolution=resolution,
            ),
            self._lines,
        )

    def make_export_error(self, builder: str, ended: str, command: str) -> VolantError:
        """The error of an image that could not be taken out of the builder's store."""
        what = f"cannot take the built image out of {builder}: {builder} ended with {ended}"
        return recognize(ToolFailed(what, details=[*self._lines[-20:], f"command: {command}"]), self._lines)

    def find_reason(self) -> str:
        """The first thing said of the last step, which is its error; else the last thing said. For people only."""
        told = [line.strip() for line in self._last_lines() if line.strip()]
        said = [line for line in told if not re.match(r"STEP |Step |-->|time=|:", line)]
        line = said[0] if said else (self._lines or [""])[-1].strip()
        return line[-160:].rpartition(": ")[2] or line[-160:]

    def last_line(self) -> str:
        """The last thing said: the answer to a question."""
        told = [line.strip() for line in self._lines if line.strip()]
        return told[-1][:200] if told else ""

    def _last_lines(self) -> list[str]:
        """The output of the failing step, its end where it is long."""
        told = [line for line in self._lines if line.strip() and line not in self._kept_back]
        begin = max(
            (number for number, line in enumerate(told) if re.match(r"STEP \d+|Step \d+", line)), default=0
        )
        return told[begin:][-20:]


def recognize(error: ToolFailed, lines: Sequence[str]) -> VolantError:
    """A builder's failure that has a better name: a full disk."""
    if any("no space left on device" in line.lower() for line in lines):
        return StorageFull(
            error.what,
            details=error.details,
            resolution="free some space, or set TMPDIR to a folder with more of it",
        )
    return error


def _shorten(text: str, limit: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
