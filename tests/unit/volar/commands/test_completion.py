# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from unit.volar.conftest import Volar


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(volar: Volar, shell: str) -> None:
    assert "_VOLAR_COMPLETE" in volar("completion", shell).out
    assert volar("completion", "csh").exit_code == 2
