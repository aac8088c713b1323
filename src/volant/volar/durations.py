# SPDX-License-Identifier: Apache-2.0
"""Lengths of time as people type them: 90s, 30m, 12h, 30d, 4w, or never."""

from __future__ import annotations

import re
from typing import Any

import click

from volant.volar.names import Parameter

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")


class Duration(Parameter):
    """Whole seconds; None for never."""

    name = "duration"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int | None:
        if value == "never":
            return None
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(
                f"{value!r} is not a length of time: give 90s, 30m, 12h, 30d, 4w or never", parameter, context
            )
        return int(match[1]) * _SECONDS[match[2]]


DURATION = Duration()
