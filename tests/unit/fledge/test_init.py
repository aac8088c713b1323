# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from volant.errors import Conflict
from volant.fledge.init import make_skeleton
from volant.fledge.recipe import load_recipe
from volant.fledge.validate import validate_folder


@pytest.mark.parametrize("kind", ["oci", "initramfs"])
def test_a_skeleton_is_valid_as_it_is(home: Path, agent: Path, kind: Literal["oci", "initramfs"]) -> None:
    make_skeleton(home / "My App", name=None, kind=kind, force=False)
    assert validate_folder(home / "My App") == []
    recipe = load_recipe(home / "My App/fledge.toml")
    assert (recipe.plugin.name, recipe.plugin.runtime.type) == ("my-app", kind)


def test_nothing_is_overwritten_unless_asked(home: Path) -> None:
    (home / "Dockerfile").write_text("mine")
    with pytest.raises(Conflict, match="Dockerfile would be overwritten"):
        make_skeleton(home, name="a", kind="oci", force=False)
    assert [path.name for path in home.iterdir()] == ["Dockerfile"]
    make_skeleton(home, name="a", kind="oci", force=True)
    assert (home / "Dockerfile").read_text() != "mine"
