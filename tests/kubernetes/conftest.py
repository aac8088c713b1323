# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busybox_web import make_web_plugin
from support.control_plane import ControlPlane, find_free_port
from support.host import Host
from support.node_agent import Agent


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path_factory.mktemp("cluster"), pod_range="127.99.0.0/16")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def agent(
    control_plane: ControlPlane, host: Host, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agent]:
    """A node that has the plugin `web`."""
    plugin = make_web_plugin(tmp_path_factory.mktemp("web"), host, Path("/bin/busybox"))
    host.volar("plugins", "install", str(plugin))
    made = Agent(host, control_plane, find_free_port())
    made.start()
    try:
        yield made
    finally:
        made.kill()
