# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes.util, sys

find_library = ctypes.util.find_library
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in ("subprocess.Popen", "os.exec") else None)
from volant.volantd.guest.ssh_library import asyncssh

assert callable(asyncssh.connect)
assert ctypes.util.find_library is find_library
print(started)
"""


def test_no_program_is_started_to_look_for_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
