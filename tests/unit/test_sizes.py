# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.sizes import read_size, show_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("20G", 20 << 30),
        ("512M", 512 << 20),
        ("1.5T", 3 << 39),
        ("4096", 4096),
        ("2 GiB", 2 << 30),
        ("64T", 1 << 46),
    ],
)
def test_sizes_as_people_write_them(text: str, size_bytes: int) -> None:
    assert read_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "", "G", "-1G", "1e9", "0x10", "١٠G", "９G", "9" * 400, "9" * 400 + "T", "99999999999999T", "65T",
        "1G\n2", "1KK",
    ],
)  # fmt: skip
def test_what_is_no_size_or_more_than_a_disk_has_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot read the size"):
        read_size(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (79_691_776, "76.0 MiB"), (10 << 30, "10.0 GiB"),
     (3 << 40, "3.0 TiB")],
)  # fmt: skip
def test_sizes_are_shown_in_powers_of_1024(size: int, shown: str) -> None:
    assert show_size(size) == shown
    assert read_size(shown.replace(" ", "")) == size
