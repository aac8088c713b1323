# SPDX-License-Identifier: Apache-2.0
"""A monitor that keeps what it was told, for tests to look at."""

from __future__ import annotations

from volant.progress import SilentMonitor


class RememberingMonitor(SilentMonitor):
    shows_lines = True

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, name: str, total: int | None = None) -> None:
        self.lines.append(f"step {name}")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(f"warning: {line}")

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
