# SPDX-License-Identifier: Apache-2.0
"""A daemon of a bench's own with a deployment of nginx, and the addresses that lead to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from bench.http_load import Address
from bench.own_folder import make_own_folder
from bench.own_host import ROOT, OwnHost

NAME = "web"


class DeployedWeb(OwnHost):
    def deploy(self, replicas: int) -> None:
        self.install(ROOT / "examples" / "nginx", "nginx")
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
