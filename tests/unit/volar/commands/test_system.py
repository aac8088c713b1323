# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from unit.volar.conftest import Volar
from volant import __version__


def test_facts_about_the_daemon(volar: Volar) -> None:
    assert json.loads(volar("info", "-o", "json").out)["version"] == __version__
    assert "default network:" in volar("system", "info").out
    assert json.loads(volar("version", "-o", "json").out) == {"volar": __version__, "volantd": __version__}
