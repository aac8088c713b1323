# SPDX-License-Identifier: Apache-2.0
"""The user-mode network of one VM: passt leads outward and publishes ports, a filter keeps the guest from the host.

Three processes in a row, QEMU, `frame_filter` and passt, each holding a socket of the next: where one ends, for
whatever reason, the others see the end of their stream and end too. So nothing has to be stored for adoption, and
nothing is left behind. They outlive the daemon as QEMU does, and each start (or restored clone) of a VM has its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from volant.errors import Conflict, ToolFailed, VolantError
from volant.forked_programs import start_forked
from volant.process import find_tool, start_detached
from volant.volantd.network import frame_filter
from volant.volantd.network.types import PublishedPort

# What QEMU's own user-mode network has, too (its documentation, "Using the user mode network stack").
GUEST_ADDRESS = "10.0.2.15"
PREFIX_LENGTH = 24
GATEWAY = "10.0.2.2"
NAME_SERVER = "10.0.2.3"

READY_SECONDS = 20.0
# The numbers under which the filter has its sockets.
FIRST_END = 10
STREAM_QEMU_VERSION = (7, 2)
Reach = Literal["shared", "outward", "nowhere", "everything"]


def find_outward_obstacle(qemu_version: str) -> str | None:
    """Why guests in user mode have no way out on this host now, or None."""
    version = tuple(int(part) for part in re.findall(r"\d+", qemu_version)[:2])
    if version and version < STREAM_QEMU_VERSION:
        return f"QEMU {qemu_version} is older than 7.2, which passt needs"
    if find_tool("passt") is None:
        return "passt is not installed"
    if not has_default_route():
        return "this host has no default route"
    return None


def has_default_route(routes: Path = Path("/proc/net/route")) -> bool:
    """Whether IPv4 leads anywhere: passt refuses to start without (destination and mask 0, proc(5))."""
    try:
        lines = routes.read_text().splitlines()[1:]
    except OSError:
        return False
    return any(len(fields := line.split()) > 7 and fields[1] == fields[7] == "00000000" for line in lines)


def has_ipv6_default_route(routes: Path = Path("/proc/net/ipv6_route")) -> bool:
    """Whether IPv6 leads anywhere: beside the kernel's own route that rejects, which lies on loopback."""
    try:
        found = [line.split() for line in routes.read_text().splitlines()]
    except OSError:
        return False
    return any(
        len(route) > 9 and int(route[0], 16) == int(route[1], 16) == 0 and route[9] != "lo" for route in found
    )


class UserNetwork:
    """The two processes behind one VM's NIC, as their parent knows them; `start` returns before they are ready."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.processes: list[int] = []
        """passt and the filter, as long as each lives."""
        self.ended = asyncio.Event()
        self._status: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def start(
        self, path: Path, mac: str, published: Sequence[PublishedPort], *, goes_on: bool = False
    ) -> None:
        """Listen at `path` for the VM's QEMU, and start what will serve it. A guest that does not go on as who it was
        has no address yet, or another's: it is sent nothing before it has spoken, and who connects waits until
        something listens there."""
        for stale in (path, self._log):
            stale.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(1)
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            reader, writer = os.pipe()
            stack.callback(os.close, writer)
            self._watch_status(reader)
            passt = make_passt_arguments(theirs.fileno(), published)
            self._follow(start_detached(passt, self._log, pass_fds=[theirs.fileno()]))
            ends = dict(enumerate((listener.fileno(), ours.fileno(), writer), start=FIRST_END))
            ports = ",".join(str(port.guest_port) for port in published if port.protocol == "tcp")
            arguments = [*map(str, ends), mac, GUEST_ADDRESS, GATEWAY, "" if goes_on else "new", ports]
            self._follow(start_forked(frame_filter.__file__, arguments, self._log, descriptors=ends))

    def _follow(self, pid: int) -> None:
        self.processes.append(pid)
        loop = asyncio.get_running_loop()
        pidfd = os.pidfd_open(pid)

        def reap() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)  # nobody else waits for it: without this a zombie stays
            self.processes.remove(pid)
            if not self.processes:
                self.ended.set()

        loop.add_reader(pidfd, reap)

    def _watch_status(self, reader: int) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            loop.remove_reader(reader)
            word = os.read(reader, 1)
            os.close(reader)
            if not self._status.done():
                self._status.set_result(bool(word))

        loop.add_reader(reader, read)

    async def wait_ready(self) -> None:
        """Return once passt serves. Conflict where a published port is in use, ToolFailed with its words otherwise."""
        try:
            is_ready = await asyncio.wait_for(asyncio.shield(self._status), READY_SECONDS)
        except TimeoutError:
            is_ready = False
        if not is_ready:
            raise self._explain()

    def _explain(self) -> VolantError:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        words = [line for line in lines if "syslog" not in line][-5:]
        if taken := next((line for line in words if "bind" in line), ""):
            return Conflict(
                f"cannot publish the VM's ports: {taken.strip()}",
                resolution="see who has them: ss -ltnp",
            )
        return ToolFailed("cannot start the VM's network: passt does not come up", details=words)

    def close(self) -> None:
        """End both now, where no QEMU will ever come."""
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def make_passt_arguments(descriptor: int, published: Sequence[PublishedPort]) -> list[str]:
    """passt's command. `--no-map-gw`: the gateway's address does not stand for the host's loopback."""
    program = find_tool("passt") or "passt"
    arguments = [
        program, "--foreground", "--quiet", "--stderr", "--ipv4-only", "--no-map-gw",
        "--fd", str(descriptor), "--address", GUEST_ADDRESS, "--netmask", str(PREFIX_LENGTH),
        "--gateway", GATEWAY, "--dns-forward", NAME_SERVER,
    ]  # fmt: skip
    for port in published:
        option = "--tcp-ports" if port.protocol == "tcp" else "--udp-ports"
        arguments += [option, f"{port.host_ip}/{port.host_port}:{port.guest_port}"]
    return arguments
