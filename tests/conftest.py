# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["support.host_fixtures"]

# As under `make`: Go and our own programs are those of this environment, however pytest was started.
os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

# A busy machine is slow, not wrong: no test of ours fails for the time that an example took.
settings.register_profile("volant", deadline=None)
settings.load_profile("volant")

# Under nohup, and behind a shell's `&`, signals come ignored, and children inherit that: tests that send them would
# wait for ever. A handler of ours is reset to the default in every child, and still keeps the signal from ending us.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, object, object]:
    """A failure is told from the test's syntax tree. Before Python 3.11.5 a finalizer that makes a tree of its own
    meanwhile ended pytest in place of the test (CPython 106905)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        if was_enabled:
            gc.enable()
