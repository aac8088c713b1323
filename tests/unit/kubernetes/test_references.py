# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.kubernetes.references import Found, Missing, Reference, find_values


def test_what_may_be_missing_is_empty_and_what_may_not_is_waited_for() -> None:
    reference = Reference("Secret", "keys")
    assert find_values(Found({reference: {"a": b"1"}}), reference, None) == {"a": b"1"}
    assert find_values(Found(), reference, True) == {}
    with pytest.raises(Missing, match="Secret keys is not there"):
        find_values(Found(), reference, False)
