# SPDX-License-Identifier: Apache-2.0
"""The whole API in this process, for clients to speak to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.in_process_daemon import InProcessDaemon, start_in_process


@pytest.fixture
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as found:
        yield found
