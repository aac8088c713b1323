# SPDX-License-Identifier: Apache-2.0
"""Start this user's daemon and wait until it answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
import time
from pathlib import Path

from volant.contract.paths import (
    find_runtime_dir,
    find_socket,
    find_state_dir,
    make_private_folder,
    make_state_folder,
)
from volant.errors import ToolMissing, Unreachable
from volant.installation import name_install_command
from volant.process import find_tool, run_tool, start_detached

# An emulated host takes a minute; a daemon that ends is told at once.
START_SECONDS = 120.0
# The folder that sd_booted(3) looks for.
SYSTEMD = Path("/run/systemd/system")
UNIT = "volantd.service"


def find_daemon_program() -> list[str]:
    beside = Path(sys.argv[0]).resolve().parent / "volantd"
    found = str(beside) if beside.is_file() else find_tool("volantd")
    if found is None:
        raise _make_missing()
    return [os.path.abspath(found)]


def _make_missing() -> ToolMissing:
    return ToolMissing(
        "cannot start volantd: it is not installed here",
        resolution=f"{name_install_command('daemon')}   (or point --api at a daemon that runs elsewhere)",
    )


def is_answering(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def start_service() -> bool:
    """Start the daemon as the service that `volar setup` made of it; False where it is none.

    Beside the service, in this session, it would keep the service from starting and end with the session.
    """
    if not SYSTEMD.is_dir() or {"VOLANT_HOME", "XDG_STATE_HOME"} & os.environ.keys():
        return False
    systemctl = ["systemctl"] if os.geteuid() == 0 else ["systemctl", "--user"]
    try:
        asked = run_tool([*systemctl, "is-enabled", UNIT], accepted_exit_codes=range(256))
    except ToolMissing:
        return False
    if asked.stdout.strip() != "enabled":
        return False
    run_tool([*systemctl, "start", UNIT], what=f"start {UNIT}")
    return is_answering(find_socket())


def start_daemon() -> None:
    """Start volantd in a session of its own, so that it outlives this terminal; return once it accepts.

    Two volar commands at once start one daemon: the second waits for the first's lock and then finds the socket.
    """
    runtime, state = find_runtime_dir(), find_state_dir()
    make_state_folder(state)
    make_private_folder(runtime)
    log = state.absolute() / "volantd.log"
    command = [*find_daemon_program(), "serve"]
    with (runtime / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_answering(find_socket()) or start_service():
            return
        with contextlib.chdir("/"):  # where it keeps no folder busy that somebody wants to unmount
            pid = start_detached(command, log, inherit=True)
        deadline = time.monotonic() + START_SECONDS
        while not is_answering(find_socket()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended and os.waitstatus_to_exitcode(status) == ToolMissing.exit_code:
                raise _make_missing()
            if ended or time.monotonic() > deadline:
                tail = log.read_text(errors="replace").splitlines()[-10:]
                raise Unreachable(
                    "cannot start volantd: it did not come up",
                    details=tail,
                    resolution=f"see {log}, or run 'volantd serve' in a terminal",
                )
            time.sleep(0.02)
