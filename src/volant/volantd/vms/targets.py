# SPDX-License-Identifier: Apache-2.0
"""Where in a guest something of the host's may be mounted."""

from __future__ import annotations

import posixpath

from volant.errors import InvalidInput

# The kernel's and the agent's own.
KEPT_FOLDERS = ("/proc", "/sys", "/dev", "/run")


def read_target(target: str, problem: str, *, example: str) -> str:
    """The path without detours. InvalidInput, which begins with `problem`."""
    normal = posixpath.normpath(target)
    if not target.startswith("/") or ".." in target.split("/") or normal.strip("/") == "" or "\0" in target:
        raise InvalidInput(
            f"{problem} at {target!r}: that is no absolute path of a folder below /", resolution=example
        )
    if any(normal == folder or normal.startswith(f"{folder}/") for folder in KEPT_FOLDERS):
        raise InvalidInput(f"{problem} at {normal}: the system needs that place itself")
    return normal
