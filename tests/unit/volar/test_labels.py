# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import UsageError
from volant.volar.labels import format_labels, parse_labels


def test_labels_need_a_value() -> None:
    assert parse_labels(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    assert format_labels({"a": "1", "b": ""}) == "a=1,b="
    with pytest.raises(UsageError, match="not NAME=VALUE"):
        parse_labels(["a"])
