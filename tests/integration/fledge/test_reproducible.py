# SPDX-License-Identifier: Apache-2.0
"""The same sources and inputs give the same bytes: two copies of this project make two wheels, each of them makes the
same plugin, and nothing but the project is the same around them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.builder_store import make_store, remove_store, write_project
from support.plugin_disk import debugfs, read_disk

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ("podman", "buildah", "busybox", "qemu-img", "debugfs", "e2fsck", "taskset")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the store of the test's own needs root"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]


@dataclass(frozen=True)
class Surroundings:
    """What must not count."""

    builder: str
    folder: str
    umask: str
    age_seconds: int
    variables: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()


SURROUNDINGS = (
    Surroundings("buildah", "here", "022", 0, {"TZ": "UTC", "LANG": "C"}),
    # Compiled from nothing: the cache that the first wheel was made with knows nothing of this one.
    Surroundings(
        "podman", "some/where else", "077", 1 << 29,
        {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "GOCACHE": "go-cache", "HOME": "home"}, ("taskset", "1"),
    ),
)  # fmt: skip


def run(surroundings: Surroundings, folder: Path, environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        ["sh", "-c", f'umask {surroundings.umask}; exec "$@"', "sh", *command], cwd=folder, env=environment,
        text=True, capture_output=True, timeout=800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_sources(target: Path, surroundings: Surroundings) -> None:
    """What a wheel is made of, without anything that was made from it."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    shutil.copytree(ROOT / "kestrel", target / "kestrel")
    shutil.copytree(ROOT / "dashboard", target / "dashboard", ignore=shutil.ignore_patterns("node_modules"))
    made = shutil.ignore_patterns("__pycache__", "agents", "built")
    shutil.copytree(ROOT / "src", target / "src", ignore=made)
    for path in target.rglob("*"):
        status = path.stat()
        os.utime(path, (status.st_atime, status.st_mtime - surroundings.age_seconds))


def install_wheel(folder: Path, surroundings: Surroundings) -> tuple[Path, str]:
    """Make a wheel from a copy of the sources and install it; returns where to, and the wheel's digest."""
    sources = folder / surroundings.folder
    copy_sources(sources, surroundings)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    environment.pop("VOLANT_GO", None)
    module_cache = subprocess.run(
        ["go", "env", "GOMODCACHE"], env=environment, capture_output=True, text=True, check=True
    )
    environment["GOMODCACHE"] = module_cache.stdout.strip()
    environment |= surroundings.variables
    for name in ("GOCACHE", "HOME"):
        if name in surroundings.variables:
            environment[name] = str(folder / surroundings.variables[name])
    run(
        surroundings,
        sources,
        environment,
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        str(folder),
    )
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--no-deps",
        "--no-index",
    ]
    run(surroundings, folder, environment, *pip, "--target", str(target), str(wheel))
    if "GOCACHE" in surroundings.variables:
        shutil.rmtree(environment["GOCACHE"])
    return target, hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_two_environments_each_with_its_own_wheel_make_the_same_bytes(tmp_path: Path) -> None:
    """Other wheel, builder, store, folders, dates, locale and time zone, umask; one core in place of all."""
    wheels, plugins, listings = [], [], []
    for number, surroundings in enumerate(SURROUNDINGS):
        folder = tmp_path / f"wheel{number}"
        folder.mkdir()
        site, digest = install_wheel(folder, surroundings)
        wheels.append(digest)
        store = make_store(tmp_path / f"store{number}")
        try:
            store.environment.update(
                SOURCE_DATE_EPOCH="1700000000", TZ=surroundings.variables["TZ"], LANG=surroundings.variables["LANG"],
                PYTHONPATH=str(site),
            )  # fmt: skip
            project = write_project(tmp_path / surroundings.folder / "project")
            used = run(
                surroundings,
                project,
                store.environment,
                sys.executable,
                "-c",
                "import volant; print(volant.__file__)",
            )
            assert used.strip() == str(site / "volant/__init__.py")
            run(
                surroundings, project, store.environment, *surroundings.wrapper,
                sys.executable, "-m", "volant.fledge.cli", "build", "--builder", surroundings.builder,
            )  # fmt: skip
            plugin = project / "web.tar.gz"
            raw = read_disk(plugin, tmp_path / f"disk{number}")
            assert (
                debugfs(raw, "cat /usr/local/bin/kestrel")
                == (site / "volant/agents/kestrel-linux-amd64").read_bytes()
            )
            plugins.append(hashlib.sha256(plugin.read_bytes()).hexdigest())
            listings.append(debugfs(raw, "ls -l /").decode() + debugfs(raw, "ls -l /srv").decode())
        finally:
            remove_store(store)
    assert listings[0] == listings[1]
    assert plugins[0] == plugins[1]
    assert wheels[0] == wheels[1]
