# SPDX-License-Identifier: Apache-2.0
"""A daemon of a bench's own with a deployment of nginx, and the addresses that lead to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.http_load import Address
from bench.own_folder import make_own_folder

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "tests"
NAME = "web"


class DeployedWeb:
    def __init__(self, home: Path) -> None:
        self.environment = {
            **os.environ, "VOLANT_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self._home = home

    def run(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(arguments, cwd=cwd, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def deploy(self, replicas: int) -> None:
        self.run("volar", "setup", "kernel")
        self.run(str(ROOT / "scripts" / "make-base-image.sh"), "buildah", str(CACHE))
        plugin = self._home / "nginx.tar.gz"
        folder = ROOT / "examples" / "nginx"
        self.run("fledge", "build", "--builder", "buildah", "--output", str(plugin), cwd=folder)
        self.run("volar", "plugins", "install", str(plugin))
        self.run(
            "volar", "deployments", "create", NAME, "-p", "nginx", "-r", str(replicas), "--publish", "80",
        )  # fmt: skip

    def see(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("volar", "deployments", "get", NAME, "-o", "json"))
        return found

    @property
    def address(self) -> Address:
        """The balancer's."""
        (port,) = self.see()["publish"]
        return port["host_ip"], port["host_port"]

    @property
    def direct_addresses(self) -> list[Address]:
        """Where the host reaches each VM by itself."""
        vms = json.loads(self.run("volar", "vms", "list", "-l", f"volant.deployment={NAME}", "-o", "json"))
        places = [urlsplit(vm["url"]) for vm in vms]
        return [(place.hostname or "", place.port or 80) for place in places]


@contextmanager
def deploy_web(replicas: int) -> Iterator[DeployedWeb]:
    with make_own_folder() as home:
        web = DeployedWeb(home)
        web.deploy(replicas)
        yield web
