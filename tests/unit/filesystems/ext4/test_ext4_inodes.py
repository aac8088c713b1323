# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from volant.filesystems.ext4.inodes import encode_device, encode_time

# 2310-04-04 00:37:19
LATEST = 10_737_418_239


def decode_time(low: int, extra: int) -> tuple[int, int]:
    """As the kernel reads it (fs/ext4/ext4.h, ext4_decode_extra_time)."""
    signed = low - (1 << 32) if low >= 1 << 31 else low
    return signed + ((extra & 3) << 32), extra >> 2


@settings(deadline=None)
@given(st.integers(-(1 << 31), LATEST), st.integers(0, 999_999_999))
def test_times_survive(seconds: int, nanoseconds: int) -> None:
    assert decode_time(*encode_time(seconds, nanoseconds)) == (seconds, nanoseconds)


def test_times_that_ext4_cannot_hold_move_to_the_nearer_end() -> None:
    assert decode_time(*encode_time(-(1 << 40), 0))[0] == -(1 << 31)
    assert decode_time(*encode_time(1 << 40, 0))[0] == LATEST


def test_small_device_numbers_take_the_old_form_and_large_ones_the_new() -> None:
    assert encode_device(8, 1)[:8] == bytes.fromhex("01080000 00000000")
    assert encode_device(259, 0x12345)[:8] == bytes(4) + (0x45 | 259 << 8 | 0x12300 << 12).to_bytes(
        4, "little"
    )
