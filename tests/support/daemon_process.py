# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process with a state folder of its own, whose guests are processes too."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.plugin_files import make_plugin

TESTS = Path(__file__).parents[1]
START_SECONDS = 120  # most of a start is imports, and other tests run beside this one
# The command line of volar, from the checkout.
VOLAR = [sys.executable, "-c", "from volant.programs import volar; volar()"]


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._socket_path))


class Daemon:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "run" / "volantd.sock"
        kernel = home / "vmlinux"
        kernel.write_bytes(b"\x7fELF")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLANT_")},
            "VOLANT_HOME": str(home),
            "VOLANT_KERNEL": str(kernel),
            "PYTHONPATH": str(TESTS),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        log = (self.home / "daemon.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "support" / "fake_hypervisor.py")],
            env={**self.environment, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        process = self.process
        wait_until(lambda: self._answers() or process.poll() is not None, START_SECONDS)

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/healthz", prefix="")[0] == 200
        except OSError:
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)

    def call(
        self, method: str, path: str, body: Any = None, *, prefix: str = "/api/v1", **headers: str
    ) -> tuple[int, Any]:
        connection = Connection(self.socket)
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if body is not None and not isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, prefix + path, body=content, headers=headers)
            reply = connection.getresponse()
            text = reply.read()
            is_json = text and reply.headers["Content-Type"] == "application/json"
            return reply.status, json.loads(text) if is_json else text
        finally:
            connection.close()

    def vm(self, name: str = "vm") -> dict[str, Any]:
        status, vm = self.call("GET", f"/vms/{name}")
        assert status == 200, vm
        return dict(vm)

    def guests(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes()
                if b"fake_guest.py" in command and os.fsencode(self.home) in command:
                    found.append(int(folder.name))
        return found

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for pid in self.guests():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def start_daemon() -> Iterator[Daemon]:
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        daemon.start()
        status, reply = daemon.call("POST", "/plugins", make_plugin())
        assert status == 201, reply
        yield daemon
    finally:
        print((daemon.home / "daemon.log").read_text())
        daemon.close()


def create(daemon: Daemon, name: str = "vm", **request: Any) -> dict[str, Any]:
    status, vm = daemon.call("POST", "/vms", {"name": name, "plugin": "web", **request})
    assert status == 201, vm
    return dict(wait_until(lambda: (found := daemon.vm(name))["status"] != "starting" and found))
