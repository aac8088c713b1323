# SPDX-License-Identifier: Apache-2.0
"""A registry on this machine: Debian's docker-registry over a folder."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def start_registry(folder: Path, more: str = "") -> Iterator[str]:
    """A registry, as host:port; the test is skipped where the program is missing. `more` ends its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not on this machine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder / 'registry'}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{more}"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
