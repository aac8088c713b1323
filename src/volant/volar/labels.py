# SPDX-License-Identifier: Apache-2.0
"""Labels as people type and read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volant.errors import UsageError


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE each; of a name given twice the last counts."""
    for text in given:
        if "=" not in text:
            raise UsageError(f"cannot use --label {text!r}: not NAME=VALUE")
    return dict(text.split("=", 1) for text in given)


def format_labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())
