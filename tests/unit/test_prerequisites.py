# SPDX-License-Identifier: Apache-2.0
"""Tests are skipped where their tool is missing, so one that no package of scripts/debian-packages.txt brings would
never be noticed: after `make setup` every tool that a test asks for is there."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# A daemon that would run on everybody's machine: tests/integration/fledge/test_docker.py unpacks one of its own. Debian
# 12 has no Cloud Hypervisor: where it is there it is tried, and the fake that stands for it is not.
NOT_INSTALLED = {"dockerd", "cloud-hypervisor"}


def test_every_tool_that_tests_look_for_is_installed() -> None:
    wanted = {tool: path for path in TESTS.rglob("*.py") for tool in find_tools(ast.parse(path.read_text()))}
    assert {"umoci", "skopeo", "docker-registry", "syslinux"} <= set(wanted)
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = {
        tool: str(file.relative_to(TESTS))
        for tool, file in wanted.items()
        if tool not in NOT_INSTALLED and shutil.which(tool, path=path) is None
    }
    assert not missing, "make setup installs no package with it, or was not run"


def find_tools(module: ast.Module) -> Iterator[str]:
    """Names given to `shutil.which`, and those in a tuple called TOOLS."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(attr="which"), args=[ast.Constant(value=str(name)), *_]):
                yield name
            case ast.Assign(targets=[ast.Name(id="TOOLS")], value=ast.Tuple(elts=names)):
                yield from (str(name.value) for name in names if isinstance(name, ast.Constant))
            case ast.AnnAssign(target=ast.Name(id="TOOLS"), value=ast.Tuple(elts=names)):
                yield from (str(name.value) for name in names if isinstance(name, ast.Constant))
