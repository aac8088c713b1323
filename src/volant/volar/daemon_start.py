# SPDX-License-Identifier: Apache-2.0
"""Start this user's daemon and wait until it answers."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from volant.contract.paths import find_runtime_dir, find_socket, find_state_dir
from volant.errors import ToolMissing, Unreachable

START_SECONDS = 30.0


def find_daemon_program() -> list[str]:
    beside = Path(sys.argv[0]).resolve().parent / "volantd"
    found = str(beside) if beside.is_file() else shutil.which("volantd")
    if found is None:
        raise ToolMissing(
            "cannot start volantd: the program is not installed here",
            resolution="install volant[daemon], or point --api at a daemon that runs elsewhere",
        )
    return [found]


def is_answering(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def start_daemon() -> None:
    """Start volantd in a session of its own, so that it outlives this terminal; return once it accepts.

    Two volar commands at once start one daemon: the second waits for the first's lock and then finds the socket.
    """
    runtime, state = find_runtime_dir(), find_state_dir()
    for folder in (runtime, state):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = state / "volantd.log"
    with (runtime / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_answering(find_socket()):
            return
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*find_daemon_program(), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=dict(os.environ),
            )
        deadline = time.monotonic() + START_SECONDS
        while not is_answering(find_socket()):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace").splitlines()[-10:]
                raise Unreachable(
                    "cannot start volantd: it did not come up",
                    details=tail,
                    resolution=f"see {log}, or run 'volantd serve' in a terminal",
                )
            time.sleep(0.02)
