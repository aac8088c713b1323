# SPDX-License-Identifier: Apache-2.0
"""The agent binaries that the wheel carries, one per guest architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import volant
from volant.errors import ToolMissing

Architecture = Literal["amd64", "arm64"]


def find_agent(architecture: Architecture) -> Path:
    """Path of kestrel for a guest architecture; ToolMissing where this installation has none."""
    path = Path(volant.__file__).parent / "agents" / f"kestrel-linux-{architecture}"
    if not path.is_file():
        raise ToolMissing(
            f"cannot find the guest agent for {architecture}: this installation has no {path.name}",
            resolution="install the volant wheel, or run 'make build' in a source checkout",
        )
    return path
