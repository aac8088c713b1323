# SPDX-License-Identifier: Apache-2.0
"""A daemon in this process, whose plugins are one module's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.in_process_daemon import InProcessDaemon, start_in_process


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as found:
        yield found
