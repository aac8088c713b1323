# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.volar.attachment import LeaveKeys


@pytest.mark.parametrize(
    ("typed", "passed", "left"),
    [
        ([b"ls\r"], b"ls\r", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"\x10\x11"], b"\x10", True),
        ([b"\x10x\x11"], b"\x10x\x11", False),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_the_keys_that_leave_are_not_passed_on(typed: list[bytes], passed: bytes, left: bool) -> None:
    keys = LeaveKeys()
    assert b"".join(keys.filter(part) for part in typed) == passed
    assert keys.were_typed is left
