# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

from unit.volar.conftest import Volar


def test_values_come_from_a_file_and_are_never_shown(volar: Volar, tmp_path: Path) -> None:
    value = tmp_path / "key"
    value.write_bytes(b"secret value")
    assert volar("secrets", "create", "key", "--file", str(value)).out == "set key (12 bytes)\n"
    assert [row["name"] for row in json.loads(volar("secret", "ls", "-o", "json").out)] == ["key"]
    assert "secret value" not in volar("secrets", "list").out
    assert volar("secrets", "rm", "secret/key").out == "removed key\n"
