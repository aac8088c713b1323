# SPDX-License-Identifier: Apache-2.0
"""Settings of all tests."""

import ast
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["support.browser", "support.host_fixtures"]

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


@pytest.fixture(autouse=True)
def signals_stay() -> Iterator[None]:
    """Programs that a test calls in this process take signals over; those are not the next test's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def parse_undisturbed(*arguments: Any, **options: Any) -> ast.AST:
    with PARSING:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return _parse(*arguments, **options)
        finally:
            if was_enabled:
                gc.enable()


# Before Python 3.11.5 a syntax tree fails that is made while a finalizer or another thread makes one (CPython 106905):
# pytest needs them to tell a failure, hypothesis to name what it tries.
if sys.version_info < (3, 11, 5):
    PARSING, _parse = threading.RLock(), ast.parse
    ast.parse = parse_undisturbed  # type: ignore[assignment]
