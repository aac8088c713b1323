# SPDX-License-Identifier: Apache-2.0
"""A folder for one bench, and no process left that names it, however the bench ends: SIGKILL, too.

Daemons and VMs outlive whoever started them, by design. A second process of ours (`python own_folder.py FOLDER`) reads
a pipe that only the bench holds: at its end it kills what has the folder in its command line or environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SWEEP_SECONDS = 10.0


@contextlib.contextmanager
def make_own_folder() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        # Closing the sweeper's pipe starts it; leaving its context waits for it.
        folder = Path(tempfile.mkdtemp(prefix="volant-bench-", dir="/tmp"))
        sweeper = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        stack.enter_context(sweeper)
        yield folder


def find_users(folder: str) -> list[int]:
    """Processes, other than this one, that were started with something of the folder."""
    name = os.fsencode(folder)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_user = name in (process / "cmdline").read_bytes() or name in (process / "environ").read_bytes()
            if is_user and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def sweep(folder: str) -> None:
    deadline = time.monotonic() + SWEEP_SECONDS
    while (left := find_users(folder)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
