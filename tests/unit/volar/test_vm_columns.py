# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.volar.vm_columns import COLUMNS


@pytest.mark.parametrize(("status", "shown"), [("running", "unhealthy"), ("stopped", "")])
def test_health_is_that_of_a_vm_that_runs(status: str, shown: str) -> None:
    assert COLUMNS["HEALTH"]({"status": status, "health": "unhealthy"}) == shown
