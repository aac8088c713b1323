# SPDX-License-Identifier: Apache-2.0
"""The agent says the distribution's version."""

from __future__ import annotations

import re
from pathlib import Path

from volant import __version__

ROOT = Path(__file__).parents[3]


def test_agent_has_the_version_of_the_distribution() -> None:
    agent = re.search(
        r'^var version = "(.+)"$', (ROOT / "kestrel/cmd/kestrel/main.go").read_text(), re.MULTILINE
    )
    assert agent is not None
    assert agent.group(1) == __version__
