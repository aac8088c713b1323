# SPDX-License-Identifier: Apache-2.0
"""asyncssh for all of the daemon, without the shared libraries that it looks for when it is imported.

It would run ldconfig, a compiler and a linker five times over, for algorithms that no guest of ours is ever asked for.
"""

from __future__ import annotations

import ctypes.util

_find_library = ctypes.util.find_library
ctypes.util.find_library = lambda name: None
try:
    import asyncssh
finally:
    ctypes.util.find_library = _find_library

__all__ = ["asyncssh"]
