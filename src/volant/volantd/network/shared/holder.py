# SPDX-License-Identifier: Apache-2.0
"""The program that holds the VMs' shared network: a user and a network namespace of the daemon's own, with a bridge.

Runs as a fork of the fork server (arguments: see `main`), with the standard library only. It knows nothing of VMs. What
it does for who connects to its listener (a SEQPACKET socket; JSON, one request at a time each) is what only somebody
inside can: a socket, which stays in the namespace of who made it, a tap device on the bridge, and a program's run. The
descriptors go back by SCM_RIGHTS, so that no byte of a guest's ever passes through here.

A tap device lasts as long as somebody has it open: VMs' devices need no sweeping. The namespace lasts as long as
anything is in it, a device or this process; a holder that was killed is followed by one that enters it again. It ends
itself, and what leads outward with it, once nobody is connected and no VM is attached.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
# linux/sockios.h, linux/if.h, linux/if_tun.h, linux/if_arp.h
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFHWADDR = (
    0x8913,
    0x8914,
    0x8916,
    0x891C,
    0x8924,
)
SIOCGIFINDEX, SIOCBRADDBR, SIOCBRADDIF = 0x8933, 0x89A0, 0x89A2
IFF_UP, ARPHRD_ETHER = 1, 1
TUNSETIFF, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 2, 0x1000, 0x4000
TAP_PREFIX = "vtap"
MESSAGE_LIMIT_BYTES = 1 << 16
MOST_DESCRIPTORS = 4
# How long it waits for a daemon that comes back, or for the first VM.
IDLE_SECONDS = 10.0
SETTINGS = (
    ("ipv4/ip_forward", "1"),
    # Who shares no network with whom is for the bridge's own rules, which the host's would only repeat.
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
)
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def make_namespaces() -> None:
    """Root of a user namespace in which nobody but this user is anybody, and a network of its own."""
    user, group = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    call("unshare", CLONE_NEWNET)


def enter_namespaces(user: int, network: int) -> None:
    call("setns", user, CLONE_NEWUSER)
    call("setns", network, CLONE_NEWNET)


def make_request(name: str, *values: bytes) -> bytes:
    """struct ifreq."""
    return struct.pack("16s24s", name.encode(), b"".join(values))


def raise_link(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, SIOCGIFFLAGS, make_request(name))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(control, SIOCSIFFLAGS, make_request(name, struct.pack("H", flags | IFF_UP)))


def find_index(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return int(struct.unpack_from("i", fcntl.ioctl(control, SIOCGIFINDEX, make_request(name)), 16)[0])


def make_bridge(name: str, mac: str, address: str, netmask: str, address6: str, prefix6_length: int) -> None:
    """As the bridge for root is made (network/bridge.py), by calls that need no library; harmless where it is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, SIOCBRADDBR, name.encode() + b"\0")
        except FileExistsError:
            pass
        hardware = struct.pack("H6s", ARPHRD_ETHER, bytes.fromhex(mac.replace(":", "")))
        fcntl.ioctl(control, SIOCSIFHWADDR, make_request(name, hardware))
        for number, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, netmask)):
            place = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, number, make_request(name, place))
    raise_link(name)
    if address6:
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
                place = socket.inet_pton(socket.AF_INET6, address6)
                fcntl.ioctl(
                    control, SIOCSIFADDR, place + struct.pack("=Ii", prefix6_length, find_index(name))
                )
        except OSError as error:
            print(f"no IPv6 between VMs: {error}", file=sys.stderr, flush=True)


def open_tap(name: str, bridge: str) -> int:
    """A tap device on the bridge, which is there for as long as the descriptor is open."""
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = struct.pack("H", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
        fcntl.ioctl(opened, TUNSETIFF, make_request(name, flags))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, SIOCBRADDIF, make_request(bridge, struct.pack("i", find_index(name))))
        raise_link(name)
    except BaseException:
        os.close(opened)
        raise
    return opened


def count_taps() -> int:
    with open("/proc/net/dev") as devices:
        return sum(line.strip().startswith(TAP_PREFIX) for line in devices)


def run(command: list[str], standard_input: int, output: int) -> int:
    """The exit code of a program that is run in here."""
    actions = [
        (os.POSIX_SPAWN_DUP2, standard_input, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    pid = os.posix_spawn(command[0], command, environment, file_actions=actions)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Holder:
    def __init__(self, listener: socket.socket, bridge: str) -> None:
        self._bridge = bridge
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients = 0
        self._followed: list[int] = []
        """Of processes that end when this one does."""

    def serve(self) -> None:
        idle_since = time.monotonic()
        while True:
            for key, _ in self._selector.select(timeout=IDLE_SECONDS / 4):
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                if peer is self._listener:
                    client, _ = peer.accept()
                    self._selector.register(client, selectors.EVENT_READ)
                    self._clients += 1
                elif not self._answer(peer):
                    self._selector.unregister(peer)
                    peer.close()
                    self._clients -= 1
            if self._clients or count_taps():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_SECONDS:
                return

    def _answer(self, client: socket.socket) -> bool:
        """Whether there was a request."""
        received: list[int] = []
        made: list[int] = []
        try:
            message, received, _, _ = socket.recv_fds(client, MESSAGE_LIMIT_BYTES, MOST_DESCRIPTORS)
            if not message:
                return False
            answer: dict[str, object]
            try:
                answer = self._do(json.loads(message), received, made)
            except OSError as error:
                answer = {"errno": error.errno or 0, "error": str(error)}
            except Exception as error:
                answer = {"errno": 0, "error": repr(error)}
            socket.send_fds(client, [json.dumps(answer).encode()], made)
        except ConnectionError:
            return False
        finally:
            for descriptor in (*received, *made):
                os.close(descriptor)
        return True

    def _do(self, request: dict[str, Any], received: list[int], made: list[int]) -> dict[str, object]:
        verb = request["verb"]
        if verb == "socket":
            made.append(socket.socket(request["family"], request["kind"]).detach())
        elif verb == "tap":
            made.append(open_tap(request["name"], self._bridge))
        elif verb == "run":
            return {"exit_code": run(request["command"], *received)}
        elif verb == "follow":
            self._followed.append(os.dup(received[0]))
        elif verb == "enter":
            made += [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "net")]
            return {"pid": os.getpid()}
        else:
            raise ValueError(f"unknown verb {verb}")
        return {}

    def end(self) -> None:
        for pidfd in self._followed:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            except ProcessLookupError:
                pass


def main(listener: str, namespaces: str, *bridge: str) -> None:
    """`namespaces`: "new", or the descriptors of both of those to enter, with a comma between."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(listener)) as listening:
        path = listening.getsockname()
        inode = os.stat(path).st_ino
        if namespaces == "new":
            make_namespaces()
        else:
            user, network = map(int, namespaces.split(","))
            enter_namespaces(user, network)
            os.close(user)
            os.close(network)
        for place, value in SETTINGS:
            try:
                with open(f"/proc/sys/net/{place}", "w") as file:
                    file.write(value)
            except OSError as error:
                if place == "ipv4/ip_forward":
                    raise
                print(f"net/{place}: {error.strerror}", file=sys.stderr, flush=True)
        raise_link("lo")
        name, mac, address, netmask, address6, prefix6_length = bridge
        make_bridge(name, mac, address, netmask, address6, int(prefix6_length))
        holder = Holder(listening, name)
        holder.serve()
        holder.end()
        # Another one may have taken its place meanwhile.
        if os.stat(path).st_ino == inode:
            os.unlink(path)
