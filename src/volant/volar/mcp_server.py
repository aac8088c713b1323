# SPDX-License-Identifier: Apache-2.0
"""What an agent is offered over the Model Context Protocol: tools on the VMs of its session."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from volant import __version__
from volant.errors import TooLarge, VolantError
from volant.volar.mcp_workshop import Workshop

MOST_TEXT = 100_000
MOST_FILE_BYTES = 4 << 20
if TYPE_CHECKING:
    from volant.contract.api_types import Vm

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
INSTRUCTIONS = """\
Each VM is a real virtual machine with its own kernel and disk, made of a container image. Run an image, then execute
commands and move files in it; fork one to try something from the same state twice. VMs of this session are deleted
when it ends, or when their time is over.
"""


class VmSummary(BaseModel):
    name: str
    status: str
    health: str
    reason: str
    url: str | None


class CommandResult(BaseModel):
    exit_code: int
    stdout: str
    stderr: str


class Offer(Protocol):
    """A decorator that makes a function a tool."""

    def __call__(self, tool: Callable[_Parameters, _Result], /) -> Callable[_Parameters, _Result]: ...


def make_server(workshop: Workshop) -> MCPServer:
    server = MCPServer("volant", title="Volant", version=__version__, instructions=INSTRUCTIONS)

    def offer(tool: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        server.tool()(explained(tool))
        return tool

    offer_machines(offer, workshop)
    offer_insides(offer, workshop)
    return server


def offer_machines(offer: Offer, workshop: Workshop) -> None:
    """VMs as wholes."""

    @offer
    def run_image(
        image: str, name: str = "", memory_mb: int = 256, cpus: int = 1, command: list[str] | None = None
    ) -> VmSummary:
        """Start a VM of a container image (nginx:1.27) or an installed plugin, and wait until its workload is up."""
        return summarize(workshop.run(image, name, memory_mb, cpus, command or []))

    @offer
    def list_vms() -> list[VmSummary]:
        """The VMs of this session."""
        return [summarize(vm) for vm in workshop.list_vms()]

    @offer
    def fork(name: str, copy: str) -> VmSummary:
        """A running copy of a VM that runs: disk, memory and processes go on from this instant in both."""
        return summarize(workshop.fork(name, [copy])[0])

    @offer
    def delete(name: str) -> None:
        """Delete a VM and its disk."""
        workshop.delete(name)


def offer_insides(offer: Offer, workshop: Workshop) -> None:
    """What is in a VM."""
    client, limits = workshop.client, workshop.limits

    @offer
    def execute(
        name: str, command: list[str], stdin: str = "", working_dir: str = "", timeout_seconds: float = 60
    ) -> CommandResult:
        """Run one program with its arguments in a VM, as root. For a shell line: ["sh", "-c", "..."]."""
        workshop.require(name)
        seconds = min(timeout_seconds, limits.command_seconds)
        result = client.exec(
            name, command, stdin=stdin.encode(), working_dir=working_dir, timeout_seconds=seconds
        )
        return CommandResult(
            exit_code=result["exit_code"], stdout=cut(result["stdout"]), stderr=cut(result["stderr"])
        )

    @offer
    def read_file(name: str, path: str) -> str:
        """A file of a VM, as text."""
        workshop.require(name)
        content = client.read_file(name, path, most_bytes=MOST_FILE_BYTES)
        return cut(content.decode("utf-8", "replace"))

    @offer
    def write_file(name: str, path: str, text: str = "", base64_content: str = "", mode: int = 0o644) -> None:
        """Write a file of a VM, of text or of base64. Its folder must exist."""
        workshop.require(name)
        content = base64.b64decode(base64_content) if base64_content else text.encode()
        if len(content) > MOST_FILE_BYTES:
            raise TooLarge(f"cannot write {path}: more than {MOST_FILE_BYTES >> 20} MiB")
        client.write_file(name, path, content, mode=mode)

    @offer
    def read_logs(name: str, lines: int = 100, process: str = "") -> str:
        """The last lines that a VM's processes wrote."""
        workshop.require(name)
        found = client.logs(name, tail=max(0, min(lines, 1000)), process=process or None)
        return cut("\n".join(f"[{line['process']}] {line['line']}" for line in found))


def explained(tool: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Our errors as the protocol's: what, details and what to try, for the agent to read."""

    @wraps(tool)
    def call(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        try:
            return tool(*arguments, **options)
        except VolantError as error:
            raise ToolError(str(error)) from error

    return call


def summarize(vm: Vm) -> VmSummary:
    reason = vm["status_reason"] or vm["health_reason"]
    return VmSummary(name=vm["name"], status=vm["status"], health=vm["health"], reason=reason, url=vm["url"])


def cut(text: str) -> str:
    if len(text) <= MOST_TEXT:
        return text
    return f"{text[:MOST_TEXT]}\n[{len(text) - MOST_TEXT} more characters were left out]"
