# SPDX-License-Identifier: Apache-2.0
"""A child of this process that does nothing until it is ended."""

from __future__ import annotations

import os


def start_sleeping() -> int:
    """Its number. Nobody waits for it but whoever takes it for a machine's."""
    return os.posix_spawn("/bin/sleep", ["sleep", "1000"], dict(os.environ))
