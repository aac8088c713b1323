# SPDX-License-Identifier: Apache-2.0
"""`volar compose config`: the stack as it is understood, and what becomes of each of its keys."""

from __future__ import annotations

import io
from typing import Any

from volant.volar.compose.fates import Fate, list_fates
from volant.volar.compose.loading import Project


def show_config(project: Project) -> str:
    """YAML of the merged files, followed by comments: one line for each key."""
    from ruamel.yaml import YAML

    tree: dict[str, Any] = {"name": project.name}
    dumped = project.stack.model_dump(mode="json", exclude_unset=True, by_alias=True)
    tree.update(
        {key: value for key, value in dumped.items() if key not in ("name", "version", "include") and value}
    )
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(tree, text)
    return text.getvalue() + "".join(
        f"{line}\n" for line in ["", "# What becomes of each key:", *list_lines(project)]
    )


def list_lines(project: Project) -> list[str]:
    fates = [each for each in list_fates(project.stack) if each.place not in ("name", "version")]
    return [
        f"#   {each.place}: {each.fate}" + (f": {each.why}" if each.fate is not Fate.DONE else "")
        for each in fates
    ]
