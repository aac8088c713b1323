# SPDX-License-Identifier: Apache-2.0
"""How plugins may be called, and how their versions are counted; apart from the models, which take a while to load."""

from __future__ import annotations

import re

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
# https://semver.org, section "Is there a suggested regular expression"
VERSION_PATTERN = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)


def is_version(text: str) -> bool:
    return re.fullmatch(VERSION_PATTERN, text) is not None
