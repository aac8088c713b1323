# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.volantd.vms.definition import check_variables, read_bandwidth


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [(None, 0), ("50M", 50 << 20), ("50M/s", 50 << 20), ("64K", 64 << 10), ("1.5G", 3 << 29)],
)
def test_a_disks_bound_is_bytes_a_second(text: str | None, bytes_per_second: int) -> None:
    assert read_bandwidth(text) == bytes_per_second


@pytest.mark.parametrize("text", ["1K", "0", "fast", "-5M", "50M/h", "9" * 400])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_bandwidth(text)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a\n", "ä", "\0"])
def test_what_no_variable_can_be_called_is_refused(name: str) -> None:
    check_variables(["PATH", "data-1", "app.port", "7"])
    with pytest.raises(InvalidInput, match="variable"):
        check_variables(["PATH", name])
