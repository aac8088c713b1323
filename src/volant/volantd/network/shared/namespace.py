# SPDX-License-Identifier: Apache-2.0
"""The shared network's namespace as the daemon uses it: sockets, tap devices and programs that are in there.

`enter` finds the holder again, or starts one: in the namespace that this daemon knew where its holder was killed, in a
new one otherwise. All calls block for a moment, and may come from several threads.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volant.errors import ToolFailed
from volant.forked_programs import listen_privately, reap_ended, start_forked
from volant.process import find_tool
from volant.volantd.network.packet_filter import BridgeNet
from volant.volantd.network.shared import holder

ANSWER_SECONDS = 20.0
SOCKET_NAME = "net.sock"
LISTENER_DESCRIPTOR, USER_DESCRIPTOR, NETWORK_DESCRIPTOR = 10, 11, 12
MESSAGE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Inside:
    """Descriptors of both namespaces, the number of the process that holds them, and that of the network's inode."""

    user: int
    network: int
    pid: int
    inode: int


@dataclass
class Namespace:
    """`folder`: where the holder listens, a private one that outlives the daemon; `net`: what the bridge there has."""

    folder: Path
    log: Path
    net: BridgeNet
    address6: str = ""
    is_new: bool = False
    """Whether this daemon made it."""
    _followed: int = 0
    _channel: socket.socket | None = None
    _inside: Inside | None = None
    _children: list[int] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def inside(self) -> Inside | None:
        return self._inside

    def enter(self) -> Inside:
        """Raises ToolFailed where there can be none, with what the kernel says."""
        with self._lock:
            if self._channel is not None and self._inside is not None:
                if _is_open(self._channel):
                    return self._inside
                self._disconnect()
            for is_last in (False, True):
                try:
                    inside = self._connect()
                    if is_last and self._followed:
                        self._follow_again()
                    return inside
                except OSError as error:
                    self._disconnect()
                    if is_last:
                        raise self._explain(error) from error
                    self.is_new = self._inside is None
                    self._start()
        raise AssertionError("unreachable")

    def _connect(self) -> Inside:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = channel
        channel.settimeout(ANSWER_SECONDS)
        channel.connect(str(self.folder / SOCKET_NAME))
        answer, descriptors = self._ask({"verb": "enter"})
        user, network = descriptors
        before, self._inside = (
            self._inside,
            Inside(user, network, answer["pid"], os.stat(network).st_ino),
        )
        if before is not None:
            os.close(before.user)
            os.close(before.network)
        return self._inside

    def _start(self) -> None:
        reap_ended(self._children)
        self.log.unlink(missing_ok=True)
        with listen_privately(self.folder / SOCKET_NAME, socket.SOCK_SEQPACKET) as listener:
            descriptors, namespaces = {LISTENER_DESCRIPTOR: listener.fileno()}, "new"
            if self._inside is not None:
                descriptors |= {
                    USER_DESCRIPTOR: self._inside.user,
                    NETWORK_DESCRIPTOR: self._inside.network,
                }
                namespaces = f"{USER_DESCRIPTOR},{NETWORK_DESCRIPTOR}"
            net = self.net
            prefix6_length = net.prefix.prefixlen if net.prefix is not None else 0
            bridge = [net.bridge, net.mac, str(net.gateway), str(net.subnet.netmask), self.address6]
            arguments = [str(LISTENER_DESCRIPTOR), namespaces, *bridge, str(prefix6_length)]
            pid = start_forked(holder.__file__, arguments, self.log, descriptors=descriptors)
        self._children.append(pid)

    def _explain(self, error: OSError) -> ToolFailed:
        said = self.log.read_text(errors="replace").splitlines()[-5:] if self.log.exists() else []
        return ToolFailed("cannot make the VMs' shared network", details=said or [str(error)])

    def open_socket(self, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """A socket that is in there: what it connects to or is bound to is, too."""
        _, (descriptor,) = self._call({"verb": "socket", "family": family, "kind": kind})
        return socket.socket(fileno=descriptor)

    def open_tap(self, name: str) -> int:
        """A descriptor of a new tap device on the bridge; the device goes when nobody has it open any more."""
        _, (descriptor,) = self._call({"verb": "tap", "name": name})
        return descriptor

    def run(self, command: Sequence[str], what: str, stdin: bytes = b"") -> bytes:
        """What a program prints that is run in there. ToolFailed where its exit code is not 0."""
        program = find_tool(command[0]) or command[0]
        with (
            os.fdopen(os.memfd_create("input"), "w+b") as given,
            os.fdopen(os.memfd_create("output"), "w+b") as said,
        ):
            given.write(stdin)
            given.flush()
            given.seek(0)
            request = {"verb": "run", "command": [program, *command[1:]]}
            answer, _ = self._call(request, [given.fileno(), said.fileno()])
            said.seek(0)
            output = said.read()
            if answer["exit_code"]:
                lines = output.decode("utf-8", "replace").splitlines()
                raise ToolFailed(f"cannot {what}: {command[0]} gave up", details=lines[-20:])
            return output

    def follow(self, pid: int) -> None:
        """A process that is to end with the holder, or with the one that comes after it."""
        self._followed = pid
        self._follow_again()

    def _follow_again(self) -> None:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(self._followed)
            try:
                self._call({"verb": "follow"}, [pidfd])
            finally:
                os.close(pidfd)

    def _call(self, request: dict[str, Any], given: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            self.enter()
            try:
                answer, descriptors = self._ask(request, given)
            except OSError as error:
                self._disconnect()
                raise self._explain(error) from error
        if "error" in answer:
            details = [str(answer["error"])]
            raise ToolFailed(f"cannot use the VMs' shared network ({request['verb']})", details=details)
        return answer, descriptors

    def _ask(self, request: dict[str, Any], given: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        assert self._channel is not None
        socket.send_fds(self._channel, [json.dumps(request).encode()], list(given))
        # Closed in whatever another thread starts meanwhile: a tap device lasts as long as anybody has it open.
        message, descriptors, _, _ = socket.recv_fds(
            self._channel, MESSAGE_BYTES, holder.MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not message:
            raise ConnectionResetError("the process that holds it has ended")
        return json.loads(message), list(descriptors)

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def close(self) -> None:
        """Let go of it: without VMs it ends by itself."""
        with self._lock:
            self._disconnect()
            if self._inside is not None:
                os.close(self._inside.user)
                os.close(self._inside.network)
                self._inside = None
            reap_ended(self._children)


def _is_open(channel: socket.socket) -> bool:
    """Whether the other end is there: it never speaks without being asked."""
    return not select.select([channel], [], [], 0)[0]
