# SPDX-License-Identifier: Apache-2.0
"""The whole API in this process: volar's client is joined to it by a socket pair, so a test needs no listener.

Real HTTP and WebSockets by uvicorn over the real application, domain and database; only the hypervisor is a fake.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from support.fake_hypervisor import FakeHypervisor
from support.plugin_files import make_plugin
from volant.volantd.api.connections import make_protocol
from volant.volantd.api.front import make_front
from volant.volantd.deployments.controller import Controller
from volant.volantd.opened_state import make_domain
from volant.volantd.settings import Settings
from volant.volantd.tasks import end_tasks
from volant.volantd.vms.adoption import adopt_all
from volant.volantd.vms.fleet import Fleet
from volant.volar.client import Client

PROTOCOL = make_protocol(1000)
TOKEN = "in-process"


class InProcessDaemon:
    """The application on an event loop in a thread of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kernel = home / "vmlinux"
        kernel.write_bytes(b"\x7fELF")
        self._settings = Settings(state_dir=home, runtime_dir=home, kernel=kernel)
        self._stack = contextlib.ExitStack()
        self._state = ServerState()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._open())
        self.client = Client("in process", connect=self.connect)

    def connect(self, timeout: float | None) -> http.client.HTTPConnection:
        near, far = socket.socketpair()
        self._run(self._accept(far))
        near.settimeout(timeout)
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = near
        return connection

    def listen(self) -> int:
        """Answer on loopback too, to who shows TOKEN; returns the port."""
        return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def install(self, name: str = "web", version: str = "1.0.0", **manifest: Any) -> None:
        self.upload(make_plugin(name, version, **manifest))

    def upload(self, archive: bytes) -> None:
        self.client.call("POST", "/plugins", upload=iter([archive]), upload_length=len(archive))

    def add_event(self, kind: str, vm: str, **data: Any) -> None:
        async def add() -> None:
            self._domain.events.add(kind, vm, **data)

        self._run(add())

    def close(self) -> None:
        for deployment in self.client.list_deployments():
            self.client.delete_deployment(deployment["name"])
        for vm in self.client.list_vms():
            self.client.delete(f"/vms/{vm['name']}", force=True)
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        self._domain = domain = make_domain(self._settings, FakeHypervisor(), self._stack)
        self._fleet = Fleet(domain)
        await adopt_all(self._fleet)
        self._tending = self._loop.create_task(Controller(self._fleet).run())
        self._front = make_front(domain, self._fleet)
        self._front.page.serve = self._serve_page
        application = self._front.make_listener(None)
        self._config = uvicorn.Config(application, lifespan="off", log_config=None, ws="websockets-sansio")
        self._config.load()

    async def _accept(self, far: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: PROTOCOL(self._config, self._state, {}), sock=far)

    def _serve_page(self, listener: socket.socket) -> None:
        self._page = self._loop.create_task(self._serve(self._front.make_page_listener(), listener))

    async def _listen(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        await self._serve(self._front.make_listener(TOKEN), listener)
        port: int = listener.getsockname()[1]
        return port

    async def _serve(self, application: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(application, lifespan="off", log_config=None, ws="websockets-sansio")
        config.load()
        server = await self._loop.create_server(lambda: PROTOCOL(config, self._state, {}), sock=listener)
        self._stack.callback(server.close)

    async def _close(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()
        await end_tasks([self._tending])
        await self._fleet.release_all()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        self._stack.close()


@contextlib.contextmanager
def start_in_process() -> Iterator[InProcessDaemon]:
    # A short path: a UNIX socket's name holds at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    daemon = InProcessDaemon(home)
    try:
        yield daemon
    finally:
        daemon.close()
        shutil.rmtree(home)
