# SPDX-License-Identifier: Apache-2.0
"""Serves the guest agent to Dockerfiles that download it.

The customary line is `wget -O /usr/local/bin/kestrel https://get.volantvm.com/kestrel/latest/linux-amd64`.
A build should not run a binary from a host that nobody of us owns, nor need the Internet for it, so fledge
answers itself: on loopback only, for as long as the build runs. The port is fixed and the path carries the
agent's digest, because both end up in the builder's cache key: the same agent is the same layer tomorrow,
another agent is another layer.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from volant.contract.agents import Architecture, find_agent
from volant.fledge.guest import digest_agents, find_architectures
from volant.output_file import show_path
from volant.progress import Monitor

FIRST_PORT = 17077
PORTS = 32
# Builders put a downloaded file's date into the layer, so it has to be the same on every day.
LAST_MODIFIED = "Tue, 01 Jan 1980 00:00:00 GMT"
AGENT_ADDRESS = re.compile(r"https?://get\.volantvm\.com/kestrel/latest/linux-")


@dataclass(frozen=True)
class AgentServer:
    """A server that runs. `prefix` + "amd64" or "arm64" is an agent's address."""

    port: int
    prefix: str

    def rewrite(self, dockerfile: str) -> str:
        """The Dockerfile with the agent's public address replaced by ours; all else as typed."""
        return AGENT_ADDRESS.sub(self.prefix, dockerfile)


def want_agent(dockerfile: str) -> bool:
    """Whether a Dockerfile downloads the agent."""
    return AGENT_ADDRESS.search(dockerfile) is not None


@contextmanager
def start_agent_server(monitor: Monitor) -> Iterator[AgentServer]:
    """Serve both agents on loopback until the block ends."""
    agents = {architecture: find_agent(architecture).read_bytes() for architecture in find_architectures()}
    base = f"/{digest_agents()[:16]}/kestrel/latest/linux-"
    content = {f"{base}{architecture}": data for architecture, data in agents.items()}
    with _bind(content) as server:
        port = server.server_address[1]
        if port != FIRST_PORT:
            monitor.say(
                f"agent server: port {FIRST_PORT} is taken (another build?), using {port}; "
                "layers that download the agent may be built again"
            )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield AgentServer(port, f"http://127.0.0.1:{port}{base}")
        finally:
            server.shutdown()
            thread.join()


def _bind(content: dict[str, bytes]) -> ThreadingHTTPServer:
    """A listening server on the first free port of ours, the same order for everybody."""
    handler = type("AgentHandler", (_Handler,), {"content": content})
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        try:
            return _LoopbackServer(("127.0.0.1", port), handler)
        except OSError:
            continue
    return _LoopbackServer(("127.0.0.1", 0), handler)


class _LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    # With SO_REUSEADDR a second build could not tell that the port is taken on every system; without it a
    # port in TIME_WAIT would change our address. Linux refuses a port that is listened on in both cases, so
    # it stays on.
    allow_reuse_address = True


class _Handler(BaseHTTPRequestHandler):
    content: ClassVar[dict[str, bytes]] = {}
    protocol_version = "HTTP/1.1"
    server_version = "fledge"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        data = self.content.get(self.path)
        if data is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", LAST_MODIFIED)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The build's own output tells of downloads; nothing to add."""


def make_agent_context(folder: Path, architecture: Architecture) -> Path:
    """A folder with the one file `kestrel`, for `COPY --from=kestrel /kestrel ...`."""
    folder.mkdir()
    agent = folder / "kestrel"
    agent.write_bytes(find_agent(architecture).read_bytes())
    agent.chmod(0o755)
    os.utime(agent, (315532800, 315532800))
    return folder


def describe_rewrite(dockerfile: Path, server: AgentServer) -> str:
    return (
        f"{show_path(dockerfile)}: the agent comes from this fledge (127.0.0.1:{server.port}), "
        "not from get.volantvm.com"
    )
