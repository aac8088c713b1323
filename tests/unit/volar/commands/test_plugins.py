# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

from support.plugin_files import make_plugin
from unit.volar.conftest import Volar


def test_a_plugin_by_the_names_that_fingers_know(volar: Volar, tmp_path: Path) -> None:
    archive = tmp_path / "kept.tar.gz"
    archive.write_bytes(make_plugin("kept", description="for tests"))
    assert "installed kept 1.0.0" in volar("plugins", "install", str(archive)).out
    assert "kept" in volar("images").out
    assert volar("images", "-aq").out == "kept:1.0.0\n"
    assert volar("plugin", "get", "plugin/kept").out.splitlines()[2].split() == [
        "description:",
        "for",
        "tests",
    ]
    assert json.loads(volar("plugins", "inspect", "kept").out)["name"] == "kept"
    assert volar("plugins", "disable", "kept").out == "disabled kept\n"
    assert volar("create", "none", "-p", "kept").exit_code == 5
    assert volar("plugins", "enable", "kept:1.0.0").exit_code == 0
    assert volar("rmi", "plugin/kept:1.0.0").out == "removed kept:1.0.0\n"
    assert volar("plugins", "show", "kept").exit_code == 4


def test_what_is_not_there_says_how_to_make_it(volar: Volar, tmp_path: Path) -> None:
    done = volar("plugins", "install", str(tmp_path / "none.tar.gz"))
    assert (done.exit_code, "fledge build" in done.err) == (4, True)
    assert "fledge build --image" in volar("plugins", "pull", "nginx").err
