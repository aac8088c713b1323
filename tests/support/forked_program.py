# SPDX-License-Identifier: Apache-2.0
"""A program for the fork server, in a file, and the end of what was started."""

from __future__ import annotations

import os
from pathlib import Path

PROGRAM = """\
import os, signal, sys, threading

def main(what, *arguments):
    if what == "tell":
        listed = sorted(int(name) for name in os.listdir("/proc/self/fd"))
        print(os.getsid(0) == os.getpid(), os.getppid(), listed)
        print(os.read(int(arguments[0]), 100).decode(), signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)
        thread = threading.Thread(target=lambda: print("of a thread"))
        thread.start()
        thread.join()
    elif what == "fail":
        raise ValueError("no")
    elif what == "become":
        os.execv("/bin/sh", ["sh", "-c", arguments[0]])
    elif what == "stay":
        signal.pause()
"""


def write_program(folder: Path) -> str:
    path = folder / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
