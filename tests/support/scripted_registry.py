# SPDX-License-Identifier: Apache-2.0
"""A registry's API on loopback that answers as a test says, over plain HTTP: for answers that no real one gives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    kind: str = INDEX_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class ScriptedRegistry:
    place: str
    asked: list[Asked] = field(default_factory=list)


@contextlib.contextmanager
def start_scripted_registry(answer: Callable[[Asked], Answer]) -> Iterator[ScriptedRegistry]:
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append(Asked(self.command, self.path, headers, body))
            reply = answer(asked[-1])
            self.send_response(reply.status)
            for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_POST = handle_any  # noqa: N815  # http.server's names

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield ScriptedRegistry(f"127.0.0.1:{server.server_port}", asked)
        server.shutdown()
