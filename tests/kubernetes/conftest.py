# SPDX-License-Identifier: Apache-2.0
"""A cluster of a real control plane and three hosts, each in a network namespace of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lightkube import Client, KubeConfig

from support.busybox_web import make_web_plugin
from support.control_plane import ControlPlane, build_metrics_server, build_programs
from support.host import Host
from support.host_network import HostNetwork
from support.kubevirt_crd import make_crd
from support.node_agent import NODE, PORT, Agent
from support.private_network import enter_private_network
from volant.kubernetes.volume_rights import allow_volumes

CLUSTER_ADDRESS = "10.88.0.1"


@pytest.fixture(scope="session")
def hosts(host: Host) -> Iterator[list[Host]]:
    """The tests' own host and two others, with daemons and states of their own. What is fetched is fetched here."""
    build_programs()
    build_metrics_server()
    make_crd()
    with ExitStack() as stack:
        others = [Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))) for _ in range(2)]
        for one in others:
            stack.callback(one.close)
            one.volar("setup", "kernel", timeout=300)
        yield [host, *others]


@pytest.fixture(scope="session")
def networks(hosts: list[Host]) -> Iterator[list[HostNetwork]]:
    """Nothing of the tests is seen outside of networks of their own, one for each host."""
    for one in hosts:
        one.volar("daemon", "stop", check=False)
    with enter_private_network(CLUSTER_ADDRESS), ExitStack() as stack:
        made = []
        for number, one in enumerate(hosts, 1):
            network = HostNetwork(number, f"10.88.0.{10 + number}", CLUSTER_ADDRESS)
            stack.callback(network.close)
            one.prefix = network.prefix
            made.append(network)
        try:
            yield made
        finally:
            for one in hosts:
                one.prefix = []


@pytest.fixture(scope="session")
def control_plane(
    networks: list[HostNetwork], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
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
def agent(
    control_plane: ControlPlane, host: Host, networks: list[HostNetwork], plugin: Path
) -> Iterator[Agent]:
    """A node that has the plugin `web`."""
    host.volar("plugins", "install", str(plugin))
    allow_volumes(Client(config=KubeConfig.from_file(control_plane.kubeconfig).get()), NODE)
    made = Agent(host, control_plane, PORT, address=networks[0].address)
    made.start()
    try:
        control_plane.approve(NODE)
        yield made
    finally:
        made.kill()
