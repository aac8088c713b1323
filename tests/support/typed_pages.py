# SPDX-License-Identifier: Apache-2.0
"""Which blocks of the documentation a test types into a shell, and with what before it.

A block that is not typed says so, and why, in the line above it: `<!-- not typed: it needs a registry -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r'(?:^<!-- not typed: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)(?: title="[^"]+")?\n(?P<text>.*?)^```',
    re.MULTILINE | re.DOTALL,
)
SHELL = frozenset({"console", "sh", "bash", ""})
# Typed by tests of their own, which read the page.
TYPED_ELSEWHERE = {
    "README.md": "scripts/fresh.sh",
    "docs/tutorial/first-plugin.md": "tests/e2e/test_tutorial.py",
    "docs/how-to/program-in-python.md": "tests/e2e/test_sdk.py",
}
AGENTS_PAGE = ROOT / "docs" / "how-to" / "let-agents-in.md"


@dataclass(frozen=True)
class Stage:
    """What a page takes for granted: VMs that run, files, and plugins, in whose place nginx stands."""

    vms: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    def set_up(self, command: str) -> str:
        for plugin in self.plugins:
            command = re.sub(rf"--plugin {plugin}(?!\S)", "--plugin nginx", command)
        return command


STAGES = {
    "docs/how-to/dashboard.md": Stage(),
    "docs/how-to/debug-a-boot.md": Stage(vms=("my-vm",)),
    "docs/how-to/secrets.md": Stage(files={"key.txt": "value"}, plugins=("my-app",)),
    "docs/how-to/sizing.md": Stage(),
    "docs/how-to/snapshots.md": Stage(vms=("db", "worker", "web"), plugins=("shop",)),
}


def read_blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The shell's blocks of a page, each with the reason why it is not typed, or none."""
    for found in BLOCK.finditer(page.read_text()):
        if found["language"] in SHELL:
            yield found["text"], found["reason"] or ""


def split_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, with the lines that it is said to print."""
    command = ""
    printed: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if command:
                yield command, printed
            command, printed = line[2:], []
        elif line:
            printed.append(line)
    if command:
        yield command, printed


def read_agent_settings() -> dict[str, Any]:
    """`command` and `args` by which an agent's program starts `volar mcp`, as the how-to shows them."""
    (block,) = re.findall(r"^```json\n(.*?)^```", AGENTS_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    settings: dict[str, Any] = json.loads(block)["mcpServers"]["volant"]
    return settings
