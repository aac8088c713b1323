# SPDX-License-Identifier: Apache-2.0
"""A host's own network namespace, plugged into the network that the tests are in by a cable that they can cut."""

from __future__ import annotations

import os
import subprocess
from ipaddress import ip_network
from pathlib import Path

from support.host import wait_until
from support.private_network import DEVICE

INSIDE = "eth0"


class HostNetwork:
    """`prefix` runs a command in it. Its way out is the tests' network, at `gateway`."""

    def __init__(self, number: int, address: str, gateway: str) -> None:
        self.address = address
        self._gateway = gateway
        self._cable = f"host{number}"
        before = os.stat("/proc/thread-self/ns/net").st_ino
        # It holds the namespace, and ends with the tests.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._namespace = Path(f"/proc/{self._holder.pid}/ns/net")
        self.prefix = ["nsenter", f"--net={self._namespace}", "--"]
        try:
            wait_until("the namespace", lambda: self._namespace.stat().st_ino != before)
            self._plug_in()
        except BaseException:
            self.close()
            raise

    def _plug_in(self) -> None:
        peer = ["peer", "name", INSIDE, "netns", str(self._holder.pid)]
        _run("ip", "link", "add", self._cable, "type", "veth", *peer)
        _run("ip", "link", "set", self._cable, "master", DEVICE, "up")
        _run(*self.prefix, "ip", "link", "set", "lo", "up")
        _run(*self.prefix, "ip", "address", "add", f"{self.address}/24", "dev", INSIDE)
        _run(*self.prefix, "ip", "link", "set", INSIDE, "up")
        _run(*self.prefix, "ip", "route", "add", "default", "via", self._gateway)

    def route(self, pod_range: str) -> None:
        """What a cluster's network does: the node's range is reached through the node."""
        _run("ip", "route", "replace", str(ip_network(pod_range)), "via", self.address)

    def cut(self) -> None:
        _run("ip", "link", "set", self._cable, "down")

    def heal(self) -> None:
        _run("ip", "link", "set", self._cable, "up")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
