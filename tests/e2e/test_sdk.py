# SPDX-License-Identifier: Apache-2.0
"""The SDK's documentation as a program, and an agent's session, against real VMs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from support.host import ROOT, Host
from support.typed_pages import read_agent_settings

GUIDE = ROOT / "docs" / "how-to" / "program-in-python.md"


def test_the_guides_program_runs(host: Host, nginx_plugin: Path) -> None:
    """Its blocks one after the other, in a process whose daemon is this host's. The asserts are the guide's own."""
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    host.volar("daemon", "start", check=False)
    program = "\n".join(blocks)
    done = host.run(sys.executable, "-c", program, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vm/shop" not in host.volar("vms", "list", "--output", "name").stdout


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refuse(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(result.content)


async def test_an_agent_works_in_its_own_vms_alone(host: Host, nginx_plugin: Path) -> None:
    host.volar("vms", "create", "others", "--plugin", "nginx", "--no-start")
    settings = read_agent_settings()
    server = StdioServerParameters(
        command=settings["command"], args=[*settings["args"], "--memory", "256"], env=host.environment
    )
    async with Client(server) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == {
            "run_image", "list_vms", "execute", "read_file", "write_file", "read_logs", "fork", "delete"
        }  # fmt: skip
        assert "at most 256" in await refuse(client, "run_image", image="nginx", memory_mb=512)
        assert "no files of this host" in await refuse(client, "run_image", image="/etc")
        made = await call(client, "run_image", image="nginx", name="agents")
        assert (made["status"], made["health"]) == ("running", "healthy")
        await call(client, "write_file", name="agents", path="/root/note", text="ours")
        done = await call(
            client, "execute", name="agents", command=["sh", "-c", "cat /root/note -"], stdin="!"
        )
        assert done == {"exit_code": 0, "stdout": "ours!", "stderr": ""}
        copy = await call(client, "fork", name="agents", copy="agents-2")
        assert copy["name"] == "agents-2"
        read = await call(client, "read_file", name="agents-2", path="/root/note")
        assert read == {"result": "ours"}
        assert "may have 2 VMs" in await refuse(client, "fork", name="agents", copy="agents-3")
        for tool in ("delete", "read_logs"):
            assert "did not make it" in await refuse(client, tool, name="others")
        await call(client, "delete", name="agents-2")
        assert [vm["name"] for vm in (await call(client, "list_vms"))["result"]] == ["agents"]
    names = host.volar("vms", "list", "--output", "name").stdout.split()
    assert names == ["vm/others"], "the session's VMs went with it, the other stays"
    host.volar("vms", "delete", "others", "--force")


def test_the_sdk_needs_nothing_of_the_daemons() -> None:
    program = (
        "import sys; from volant.client import AsyncClient, Client; import volant.client.streams;"
        "print(sorted({'pydantic', 'fastapi', 'starlette', 'asyncssh', 'click', 'rich'} & set(sys.modules)))"
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


pytestmark = pytest.mark.usefixtures("host")
