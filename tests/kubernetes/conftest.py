# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busybox_web import make_web_plugin
from support.control_plane import ControlPlane, build_programs
from support.host import Host
from support.kubevirt_crd import make_crd
from support.node_agent import ADDRESS, PORT, Agent
from support.private_network import enter_private_network

# The cluster's address is the second host's too: it finds it by itself.
CLUSTER_ADDRESS = "10.88.0.1"


@pytest.fixture(scope="session")
def second_host() -> Iterator[Host]:
    """Another host, which is no node yet: with a daemon and a state of its own, in the same network."""
    made = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        made.volar("setup", "kernel", timeout=300)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def network(host: Host, second_host: Host) -> Iterator[None]:
    """Nothing of the tests is seen outside of their own network. What is fetched is fetched before."""
    build_programs()
    make_crd()
    for one in (host, second_host):
        one.volar("daemon", "stop", check=False)
    with enter_private_network(CLUSTER_ADDRESS, ADDRESS):
        yield


@pytest.fixture(scope="session")
def control_plane(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path_factory.mktemp("cluster"), address=CLUSTER_ADDRESS, pod_range="10.99.0.0/16")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def plugin(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_web_plugin(tmp_path_factory.mktemp("web"), host, Path("/bin/busybox"))


@pytest.fixture(scope="session")
def agent(control_plane: ControlPlane, host: Host, plugin: Path) -> Iterator[Agent]:
    """A node that has the plugin `web`."""
    host.volar("plugins", "install", str(plugin))
    made = Agent(host, control_plane, PORT)
    made.start()
    try:
        yield made
    finally:
        made.kill()
