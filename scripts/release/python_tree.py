# SPDX-License-Identifier: Apache-2.0
"""volant and its locked dependencies as one tree of files, for every Python that the packages are made for.

Pure modules are the same for all; compiled ones carry the interpreter's version in their names and lie side by side.
Nothing of it is compiled or run here: only wheels are taken, with the hashes of the lock file.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Debian 12, Ubuntu 24.04, Debian 13.
PYTHONS = ("3.11", "3.12", "3.13")
# Wheels for these versions of the GNU C library; Debian 12 has the last.
GLIBC_MINORS = range(5, 37)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class Tree:
    """`folder`: site-packages; `distributions`: by canonical name, volant among them."""

    folder: Path
    architecture: str
    version: str
    distributions: dict[str, Distribution]

    def close(self, extra: str) -> set[str]:
        """Names of all that volant needs, directly or not; with an extra, or "" for volar alone."""
        found: set[str] = set()
        queue = [("volant", extra)]
        while queue:
            name, wanted = queue.pop()
            for line in self.distributions[name].requires or ():
                requirement = Requirement(line)
                needed = canonicalize_name(requirement.name)
                is_met = requirement.marker is None or requirement.marker.evaluate({"extra": wanted})
                if is_met and needed not in found and needed != "volant":
                    found.add(needed)
                    queue += [(needed, inner) for inner in ("", *requirement.extras)]
        return found

    def list_files(self, name: str) -> list[Path]:
        """Files of a distribution, of every Python's copy. Its record names one Python's compiled modules only."""
        recorded = [Path(str(file.locate())) for file in self.distributions[name].files or ()]
        inside = [path.relative_to(self.folder) for path in recorded if ".." not in path.parts]
        tops = {_name_top(path) for path in inside}
        return [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and _name_top(path.relative_to(self.folder)) in tops
        ]


def _name_top(path: Path) -> str:
    """The module or folder that a file belongs to: `_x` of `_x.cpython-311-x86_64-linux-gnu.so`."""
    return path.parts[0].split(".")[0] if len(path.parts) == 1 else path.parts[0]


def find_architecture() -> str:
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def install_tree(wheel: Path, lock: Path, work: Path, cache: Path) -> Tree:
    """The libraries are the same until the lock changes: `cache` keeps them."""
    architecture = find_architecture()
    key = hashlib.sha256(f"{PYTHONS}{architecture}".encode() + lock.read_bytes()).hexdigest()[:16]
    libraries = cache / key
    if not libraries.is_dir():
        merged = work / "libraries"
        for python in PYTHONS:
            one = work / python
            _install(["--require-hashes", "--requirement", str(lock)], one, python, MACHINES[architecture])
            for name in ("bin", "share"):  # programs and pages of libraries
                shutil.rmtree(one / name, ignore_errors=True)
            _merge(one, merged)
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        shutil.move(merged, libraries)
    folder = work / "site-packages"
    shutil.copytree(libraries, folder)
    _install([str(wheel)], folder, PYTHONS[0], MACHINES[architecture])
    shutil.rmtree(folder / "bin")
    found = {canonicalize_name(one.metadata["Name"]): one for one in distributions(path=[str(folder)])}
    version = re.match(r"volant-([^-]+)-", wheel.name)
    assert version is not None
    return Tree(folder, architecture, version[1], found)


def _install(what: list[str], target: Path, python: str, machine: str) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC_MINORS)]
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps",
            "--no-compile", "--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms,
            f"--platform=manylinux2014_{machine}", f"--target={target}", *what,
        ],
        check=True,
    )  # fmt: skip


def _merge(one: Path, whole: Path) -> None:
    """Add what `whole` lacks: compiled modules, whose names carry their Python's version."""
    for path in sorted(one.rglob("*")):
        target = whole / path.relative_to(one)
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    shutil.rmtree(one)
