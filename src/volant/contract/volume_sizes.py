# SPDX-License-Identifier: Apache-2.0
"""How large a volume can be, for those who make one and those who ask for one."""

from __future__ import annotations

# Less the ext4 writer makes no file system of.
SMALLEST_BYTES = 16 << 20
# The first that ext4's 32-bit numbers of blocks do not reach.
LARGEST_BYTES = 1 << 44
STEP_BYTES = 1 << 20
