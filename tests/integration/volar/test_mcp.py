# SPDX-License-Identifier: Apache-2.0
"""volar mcp as an agent's program starts it: by the settings that the how-to shows, with the protocol's own client."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from support.daemon_process import Daemon, start_daemon
from support.typed_pages import AGENTS_PAGE, read_agent_settings


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


def start_server(daemon: Daemon) -> StdioServerParameters:
    settings = read_agent_settings()
    path = f"{Path(sys.executable).parent}:{daemon.environment['PATH']}"
    return StdioServerParameters(**settings, env={**daemon.environment, "PATH": path})


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    return str(result.content) if result.is_error else result.structured_content


def list_names(daemon: Daemon) -> list[str]:
    _, found = daemon.call("GET", "/vms")
    return [vm["name"] for vm in found]


async def test_the_how_tos_settings_start_it_with_the_tools_of_its_table(daemon: Daemon) -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", AGENTS_PAGE.read_text(), re.MULTILINE)
    documented = {tool for row in rows for tool in re.findall(r"`(\w+)`", row)}
    async with Client(start_server(daemon)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == documented


async def test_a_session_has_as_many_vms_as_its_settings_say_and_takes_them_with_it(daemon: Daemon) -> None:
    daemon.call("POST", "/vms", {"name": "others", "plugin": "web", "start": False})
    arguments = read_agent_settings()["args"]
    most = int(arguments[arguments.index("--vms") + 1])
    async with Client(start_server(daemon)) as client:
        for number in range(most):
            made = await call(client, "run_image", image="web", name=f"agents-{number}")
            assert (made["status"], made["health"]) == ("running", "healthy")
        assert f"may have {most} VMs" in await call(client, "run_image", image="web")
        assert "at most 1024" in await call(client, "run_image", image="web", memory_mb=1025)
        assert len(list_names(daemon)) == most + 1
    assert list_names(daemon) == ["others"]
