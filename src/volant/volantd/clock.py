# SPDX-License-Identifier: Apache-2.0
"""Times as the API and the database spell them: RFC 3339 in UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    return as_text(datetime.now(UTC))


def as_text(moment: datetime) -> str:
    """Texts of two moments compare as the moments do."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
