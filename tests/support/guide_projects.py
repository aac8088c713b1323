# SPDX-License-Identifier: Apache-2.0
"""The projects of tests/guide/projects: equivalents, written anew, of the files that the plugin guide shows."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.host import ROOT, Host

PROJECTS = ROOT / "tests" / "guide" / "projects"


def copy_project(name: str, folder: Path) -> Path:
    """A copy to build in, so that nothing is left in the sources."""
    return Path(shutil.copytree(PROJECTS / name, folder, dirs_exist_ok=True))


def type_in(host: Host, folder: Path, command: str, timeout: float = 240) -> str:
    """What a command line prints that is typed into a shell in a folder, as the guide gives it."""
    return host.run("bash", "-c", f"set -eo pipefail; {command}", cwd=folder, timeout=timeout).stdout
