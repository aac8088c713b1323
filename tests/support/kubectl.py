# SPDX-License-Identifier: Apache-2.0
"""A kubectl that goes on while a test talks with it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from support.control_plane import ControlPlane
from support.host import wait_until

PATIENCE_SECONDS = 120


class RunningKubectl:
    """What it said so far is in a file; with a terminal, what it says there."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes], terminal: int | None) -> None:
        self._process = process
        self._said = said
        self._terminal = terminal

    def write(self, text: str) -> None:
        assert self._terminal is not None
        os.write(self._terminal, text.encode())

    def read(self) -> str:
        if self._terminal is not None:
            with suppress(OSError):  # the other side is closed
                while chunk := os.read(self._terminal, 4096):
                    self._said.write(chunk)
        self._said.flush()
        with open(self._said.name, "rb") as written:
            return written.read().decode(errors="replace")

    def find(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.read())

    def wait_for(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> str:
        """What the pattern's group found, or all that it did."""
        found: re.Match[str] = wait_until(
            f"{pattern} of {self._process.args!r}", lambda: self.find(pattern), seconds
        )
        return found.group(found.lastindex or 0)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_SECONDS)


@contextmanager
def start_kubectl(
    control_plane: ControlPlane, *arguments: str, terminal: bool = False
) -> Iterator[RunningKubectl]:
    command = [
        str(control_plane.programs / "kubectl"),
        f"--kubeconfig={control_plane.kubeconfig}",
        *arguments,
    ]
    ours = theirs = None
    if terminal:
        ours, theirs = pty.openpty()
        os.set_blocking(ours, False)
    with tempfile.NamedTemporaryFile() as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL if theirs is None else theirs,
            stdout=said if theirs is None else theirs, stderr=said if theirs is None else theirs,
        )  # fmt: skip
        if theirs is not None:
            os.close(theirs)
        try:
            yield RunningKubectl(process, said, ours)
        finally:
            process.kill()
            process.wait()
            if ours is not None:
                os.close(ours)
