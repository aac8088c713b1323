# SPDX-License-Identifier: Apache-2.0
"""Where plugins are made: in this terminal, one at a time with its bars, or wherever else somebody says."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import click

from volant.errors import ToolFailed, ToolMissing
from volant.installation import name_install_command
from volant.process import find_tool, run_in_terminal

CHUNK_BYTES = 1 << 20


class Workplace(Protocol):
    def run_fledge(self, arguments: Sequence[str]) -> None:
        """`fledge build`. ToolFailed where it fails, which it has explained."""

    def read(self, stream: IO[bytes], length: int) -> Iterator[bytes]:
        """What is uploaded, with some word of how far it is."""


class Terminal:
    """fledge in this terminal, where it shows its own progress."""

    def run_fledge(self, arguments: Sequence[str]) -> None:
        status = run_in_terminal([find_fledge(), "build", *arguments])
        if status == 130:
            raise KeyboardInterrupt
        if status != 0:
            raise ToolFailed(f"cannot run it: fledge build ended with exit code {status}")

    def read(self, stream: IO[bytes], length: int) -> Iterator[bytes]:
        sent, shown = 0, -1
        on_terminal = sys.stderr.isatty()
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if on_terminal and (percent := 100 * sent // max(length, 1)) != shown:
                shown = percent
                click.echo(f"\ruploading {percent} %", nl=percent == 100, err=True)


def find_fledge() -> str:
    """ToolMissing where it is not installed."""
    beside = Path(sys.argv[0]).resolve().parent / "fledge"
    found = str(beside) if beside.is_file() else find_tool("fledge")
    if found is None:
        raise ToolMissing(
            "cannot make a plugin: fledge is not installed here",
            resolution=f"{name_install_command('fledge')}   (or run a plugin.tar.gz that was built elsewhere)",
        )
    return str(Path(found).absolute())
