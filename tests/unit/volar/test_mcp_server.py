# SPDX-License-Identifier: Apache-2.0
"""The tools that an agent is offered, asked for by the protocol's own client; the guests are processes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client

from support.in_process_daemon import InProcessDaemon, start_in_process
from volant.volar import mcp_server
from volant.volar.mcp_server import MOST_FILE_BYTES, MOST_TEXT, make_server
from volant.volar.mcp_workshop import LABEL, Limits, Workshop

LIMITS = Limits(command_seconds=7)


@pytest.fixture(scope="module")
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as found:
        found.install("web")
        yield found


@pytest.fixture(scope="module")
def workshop(daemon: InProcessDaemon) -> Workshop:
    """With one VM of its own, and one beside it that somebody else made."""
    made = Workshop(daemon.client, LIMITS)
    for name, labels in (("own", {LABEL: made.session}), ("others", {LABEL: "another"})):
        daemon.client.create_vm({"name": name, "plugin": "web", "labels": labels})
        daemon.client.wait(name)
    return made


async def call(workshop: Workshop, tool: str, **arguments: Any) -> Any:
    """What it answers, or the text of its refusal."""
    async with Client(make_server(workshop)) as client:
        result = await client.call_tool(tool, arguments)
    return str(result.content) if result.is_error else result.structured_content


async def test_a_command_its_input_and_what_it_wrote(workshop: Workshop) -> None:
    done = await call(workshop, "execute", name="own", command=["cat", "a b"], stdin="word")
    assert done == {"exit_code": 3, "stdout": "cat 'a b'|word", "stderr": "warned"}
    assert await call(workshop, "read_logs", name="own") == {"result": "[web] hello"}


async def test_files_are_text_or_base64(workshop: Workshop) -> None:
    await call(workshop, "write_file", name="own", path="/note", text="ours\n")
    assert await call(workshop, "read_file", name="own", path="/note") == {"result": "ours\n"}
    encoded = base64.b64encode(b"\xff!").decode()
    await call(workshop, "write_file", name="own", path="/bytes", base64_content=encoded)
    assert workshop.client.read_file("own", "/bytes") == b"\xff!"


async def test_what_is_too_much_is_cut_or_refused(workshop: Workshop, daemon: InProcessDaemon) -> None:
    daemon.client.write_file("own", "/long", b"x" * (MOST_TEXT + 5))
    read = await call(workshop, "read_file", name="own", path="/long")
    assert read["result"].endswith("x\n[5 more characters were left out]")
    daemon.client.write_file("own", "/larger", b"x" * (MOST_FILE_BYTES + 1))
    assert "more than" in await call(workshop, "read_file", name="own", path="/larger")
    content = base64.b64encode(b"x" * (MOST_FILE_BYTES + 1)).decode()
    refused = await call(workshop, "write_file", name="own", path="/larger", base64_content=content)
    assert "more than 4 MiB" in refused


async def test_a_command_has_no_more_time_than_the_session_gives(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def execute(name: str, command: list[str], *, timeout_seconds: float, **_: Any) -> dict[str, Any]:
        given.append(timeout_seconds)
        return {"exit_code": 0, "stdout": "", "stderr": ""}

    monkeypatch.setattr(workshop.client, "exec", execute)
    for wanted in (3600, 2):
        await call(workshop, "execute", name="own", command=["true"], timeout_seconds=wanted)
    assert given == [LIMITS.command_seconds, 2]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("execute", {"command": ["true"]}),
        ("read_file", {"path": "/note"}),
        ("write_file", {"path": "/note", "text": "theirs"}),
        ("read_logs", {}),
        ("fork", {"copy": "mine"}),
        ("delete", {}),
    ],
)
async def test_a_vm_that_another_session_made_is_left_alone(
    workshop: Workshop, tool: str, arguments: dict[str, Any]
) -> None:
    refused = await call(workshop, tool, name="others", **arguments)
    assert "this session did not make it" in refused
    assert "run an image first" in refused, "what to try"


async def test_the_list_has_the_sessions_own(workshop: Workshop) -> None:
    (vm,) = (await call(workshop, "list_vms"))["result"]
    assert (vm["name"], vm["status"], vm["health"]) == ("own", "running", "healthy")


def test_text_that_fits_stays_whole() -> None:
    assert mcp_server.cut("x" * MOST_TEXT) == "x" * MOST_TEXT
