# SPDX-License-Identifier: Apache-2.0
"""Compile the agent into src/volant/agents, as the wheel's build hook does it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hatch_build import build_agents  # noqa: E402  the hook lies at the root, where hatchling wants it

if __name__ == "__main__":
    build_agents(ROOT)
