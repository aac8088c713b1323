# SPDX-License-Identifier: Apache-2.0
"""A daemon of a bench's own, and the programs that work on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "tests"


class OwnHost:
    """`home`: a folder that is gone, with every process that names it, when the bench ends."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **os.environ, "VOLANT_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(arguments, cwd=cwd, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def install(self, folder: Path, name: str) -> None:
        """The plugin that a folder with a Dockerfile on Debian's base image makes."""
        self.run("volar", "setup", "kernel")
        self.run(str(ROOT / "scripts" / "make-base-image.sh"), "buildah", str(CACHE))
        plugin = self.home / f"{name}.tar.gz"
        self.run("fledge", "build", "--builder", "buildah", "--output", str(plugin), cwd=folder)
        self.run("volar", "plugins", "install", str(plugin))
