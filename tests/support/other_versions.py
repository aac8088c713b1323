# SPDX-License-Identifier: Apache-2.0
"""Copies of this package that are other versions of it, each a folder for PYTHONPATH."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import volant

PACKAGE = Path(volant.__file__).parent
ARGUMENTS = "volantd/hypervisors/qemu_arguments.py"


def make_version(folder: Path, version: str, options: Sequence[str]) -> Path:
    """As an upgrade leaves it: another number, another build of the agent, and a QEMU command with `options` more."""
    package = folder / "volant"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(package / "__init__.py", f'"{volant.__version__}"', f'"{version}"')
    anchor = '    yield "-no-reboot"\n'
    _replace(package / ARGUMENTS, anchor, f"{anchor}    yield from {tuple(options)!r}\n")
    for agent in (package / "agents").glob("kestrel-linux-*"):
        with agent.open("ab") as stream:
            stream.write(f"\nas version {version} has it\n".encode())
    return folder


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has changed: {old!r} is not there once"
    path.write_text(text.replace(old, new))
