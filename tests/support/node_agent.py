# SPDX-License-Identifier: Apache-2.0
"""A test's host as a node: the agent as a process that tests kill and begin again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.control_plane import ControlPlane
from support.host import Host

NODE, ADDRESS, PORT = "host-1", "10.88.0.11", 10250


class Agent:
    """Begun by `start`, ended by `kill`; what it says is in `log`."""

    def __init__(
        self, host: Host, control_plane: ControlPlane, port: int, node: str = NODE, address: str = ADDRESS
    ) -> None:
        self.node = node
        self._address = address
        self._host = host
        self._kubeconfig = control_plane.make_node_kubeconfig(node)
        self._port = port
        self._log = host.home / "agent.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            *self._host.prefix, sys.executable, "-m", "volant.kubernetes", "--kubeconfig", str(self._kubeconfig),
            "--address", self._address, "--port", str(self._port),
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._host.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def read_memory_mib(self) -> float:
        """Its resident set."""
        assert self._process is not None
        facts = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in facts.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
