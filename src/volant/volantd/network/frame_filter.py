# SPDX-License-Identifier: Apache-2.0
"""The program between a VM's NIC and passt: it keeps a guest's frames from the host's own loopback services.

passt opens a socket of the host for whatever address a frame names. It does not look whether that is 127.0.0.1 (older
versions) or 0.0.0.0, which Linux takes for the same, so a guest that writes its own frames would reach every service
of the host that trusts loopback. Here such frames end.

Runs as a fork of the fork server (LISTENER PASST STATUS MAC ADDRESS GATEWAY START PORTS), with the standard library
only: one is started for each VM. Both its ends are UNIX stream sockets with each frame after its length in four bytes,
as QEMU's `-netdev stream` and passt speak. It ends when either side does, and the other one then sees that. A byte is
written to STATUS once passt has answered.

passt opens the published ports and accepts whoever connects before there is a guest that could answer, and sends a
connection's first frame once. So a `Door` stands before a guest that boots or is a copy (START is "new"; PORTS are the
guest's that are published for TCP, with commas between): nothing comes in before the guest has spoken, and first frames
are repeated until something listens. After that bytes are carried as they come.
"""

from __future__ import annotations

import _thread
import os
import select
import socket
import sys
import time
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    # The port in the guest, and the other end's address and port.
    Connection = tuple[int, bytes, int]

CONNECT_SECONDS = 120.0
# A guest that does not say so is thought to have its own address after this time, in which a copy has become another VM
# or is given up (`waking.HANDSHAKE_SECONDS`).
OWN_ADDRESS_SECONDS = 60.0
# For how long after that somebody who connects where nothing listens waits for it.
DOOR_SECONDS = 60.0
REPEAT_SECONDS = 0.1
# More who wait at a time are sent in once, as after that time.
MOST_WAITING = 512
CHUNK_BYTES = 1 << 18
LENGTH_BYTES = 4
# An Ethernet frame of passt's largest MTU with a VLAN tag.
LARGEST_FRAME_BYTES = 65_536 + 18
NOBODY = 65534
ARP = b"\x08\x06"
IPV4 = b"\x08\x00"
TCP = 6
SYN, RST, ACK = 2, 4, 16
# First bytes of destinations that mean the host itself: "this host" (RFC 1122, 3.2.1.3a) and loopback.
HOST_NETWORKS = (0, 127)


class Door:
    """Before a guest in which nobody listens yet. One thread looks at what comes in, another at what goes out.

    A connection's first frame (SYN) waits until its port answers (SYN with ACK), and is sent again now and then. The
    guest's "nobody listens here" (RST) stays in here meanwhile. passt gives a connection up after 10 s, and says so.
    """

    def __init__(self, mac: str, ports: str, *, is_open: bool = False) -> None:
        self.is_open = is_open
        """Nothing is looked at any more."""
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._closed = {int(port) for port in ports.split(",") if port}
        self._waiting: dict[Connection, bytes] = {}
        self._let_in: set[Connection] = set()
        self._lock = _thread.allocate_lock()
        self._is_silent = True
        self._silence = _thread.allocate_lock()
        self._silence.acquire()

    def wait_for_guest(self) -> None:
        """Return once the guest has sent something from its own address."""
        self._silence.acquire(timeout=OWN_ADDRESS_SECONDS)

    @property
    def is_needed(self) -> bool:
        """Whether there are ports that nobody has been seen to listen on, or somebody waits who was not let in."""
        with self._lock:
            return bool(self._closed or self._waiting)

    def look_in(self, frames: bytes) -> None:
        """Note of whole frames for the guest who begins a connection, and who gives one up."""
        for frame in list_frames(frames):
            found = read_segment(frame)
            if found is None or not found.flags & (SYN | RST):
                continue
            connection = (found.receiver_port, found.sender, found.sender_port)
            with self._lock:
                self._let_in.discard(connection)
                if found.flags & RST:
                    self._waiting.pop(connection, None)
                elif found.receiver_port in self._closed and len(self._waiting) < MOST_WAITING:
                    # Its first way in may have been to everybody: passt did not know this guest yet.
                    self._waiting[connection] = self._mac + frame[6:]

    def look_out(self, frames: bytearray) -> bytearray:
        """Whole frames of the guest, without those that nobody is to hear."""
        kept = bytearray()
        for frame in list_frames(frames):
            if self._is_silent and frame[6:12] == self._mac:
                self._is_silent = False
                self._silence.release()
            found = read_segment(frame)
            if found is None or self._may_hear(found):
                kept += enclose(frame)
        return kept

    def _may_hear(self, segment: Segment) -> bool:
        connection = (segment.sender_port, segment.receiver, segment.receiver_port)
        with self._lock:
            if segment.flags & SYN and segment.flags & ACK:
                self._closed.discard(segment.sender_port)
                if connection in self._let_in:
                    return False  # to a frame that was sent again
                if self._waiting.pop(connection, None) is not None:
                    self._let_in.add(connection)
            return not (segment.flags & RST and connection in self._waiting)

    def repeat(self) -> bytes:
        """The first frames of all who wait."""
        with self._lock:
            return b"".join(map(enclose, self._waiting.values()))

    def open(self) -> bytes:
        """From now on everybody hears what the guest says; who still waits is sent in a last time."""
        last = self.repeat()
        with self._lock:
            self._waiting.clear()
            self.is_open = True
        return last


class Segment(NamedTuple):
    """Of a TCP segment (RFC 9293) in an IPv4 packet."""

    sender: bytes
    receiver: bytes
    sender_port: int
    receiver_port: int
    flags: int


def read_segment(frame: bytes) -> Segment | None:
    """None for other frames."""
    if frame[12:14] != IPV4 or len(frame) < 34 or frame[23] != TCP:
        return None
    head = frame[14 + 4 * (frame[14] & 15) :][:20]
    if len(head) < 20:
        return None
    ports = int.from_bytes(head[0:2], "big"), int.from_bytes(head[2:4], "big")
    return Segment(frame[26:30], frame[30:34], *ports, head[13])


def enclose(frame: bytes) -> bytes:
    return len(frame).to_bytes(LENGTH_BYTES, "big") + frame


def list_frames(stream: bytes | bytearray) -> Iterator[bytes]:
    """Whole frames, each after its length."""
    position = 0
    while position < len(stream):
        begin = position + LENGTH_BYTES
        position = begin + int.from_bytes(stream[position:begin], "big")
        yield bytes(stream[begin:position])


def may_pass(frame: memoryview | bytes) -> bool:
    """Whether a frame from the guest may leave: ARP, and IPv4 that is not meant for the host itself."""
    kind = bytes(frame[12:14])
    return kind == ARP or (kind == IPV4 and len(frame) >= 34 and frame[30] not in HOST_NETWORKS)


def select_frames(buffer: bytearray) -> bytearray:
    """The whole frames at the beginning of `buffer` that may pass, still after their lengths; they are taken out of it.

    Raises ValueError for a length that no frame has: from there on nothing can be told apart.
    """
    kept = bytearray()
    view = memoryview(buffer)
    position = 0
    try:
        while position + LENGTH_BYTES <= len(buffer):
            length = int.from_bytes(view[position : position + LENGTH_BYTES], "big")
            if length > LARGEST_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = position + LENGTH_BYTES + length
            if end > len(buffer):
                break
            if may_pass(view[position + LENGTH_BYTES : end]):
                kept += view[position:end]
            position = end
    finally:
        view.release()
    del buffer[:position]
    return kept


def make_greeting(mac: str, address: str, gateway: str) -> bytes:
    """An ARP request in the guest's name: passt hands on no connection before it has seen the guest's MAC once."""
    source = bytes.fromhex(mac.replace(":", ""))
    request = b"\x00\x01" + IPV4 + b"\x06\x04" + b"\x00\x01"
    frame = b"\xff" * 6 + source + ARP + request + source + socket.inet_aton(address)
    frame += bytes(6) + socket.inet_aton(gateway)
    return enclose(frame)


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_exactly(descriptor: int, count: int) -> bytes:
    """So many bytes, or less where the stream ends before."""
    data = b""
    while len(data) < count and (chunk := os.read(descriptor, count - len(data))):
        data += chunk
    return data


def read_frame(descriptor: int) -> bytes:
    """One whole frame and not a byte more, however it comes in; empty where the stream ends before.

    passt writes a frame's length and the frame one after the other. What was left of it here would go to the guest's
    side, where nothing could be told apart from then on.
    """
    length = int.from_bytes(read_exactly(descriptor, LENGTH_BYTES), "big")
    return read_exactly(descriptor, length)


def wait_for_answer(passt: int, mac: str) -> bytes | None:
    """Wait for passt's answer to the greeting. What came before it, of those who connected in the moment that the ports
    were open, is returned as meant for this guest; None where passt has ended."""
    own, early = bytes.fromhex(mac.replace(":", "")), b""
    while frame := read_frame(passt):
        if frame[12:14] == ARP:
            return early
        early += enclose(own + frame[6:])
    return None


def take_frames(buffer: bytearray) -> bytes:
    """The whole frames at the beginning of `buffer`, taken out of it."""
    end = 0
    while end + LENGTH_BYTES <= len(buffer):
        after = end + LENGTH_BYTES + int.from_bytes(buffer[end : end + LENGTH_BYTES], "big")
        if after > len(buffer):
            break
        end = after
    taken = bytes(buffer[:end])
    del buffer[:end]
    return taken


def carry_out(guest: int, passt: int, door: Door) -> None:
    buffer = bytearray()
    while chunk := os.read(guest, CHUNK_BYTES):
        buffer += chunk
        frames = select_frames(buffer)
        if not door.is_open:
            frames = door.look_out(frames)
        if frames:
            write_all(passt, frames)


def carry_in(passt: int, guest: int, door: Door, early: bytes) -> None:
    """Run in a thread of its own, so that no direction waits for the other; ends the process."""
    try:
        if not door.is_open:
            door.wait_for_guest()
            door.look_in(early)
        write_all(guest, early)
        if not door.is_open:
            carry_through(passt, guest, door)
        while chunk := os.read(passt, CHUNK_BYTES):
            write_all(guest, chunk)
    except OSError:
        pass
    finally:
        os._exit(0)


def carry_through(passt: int, guest: int, door: Door) -> None:
    """Frame by frame until the door is needed no more."""
    buffer = bytearray()
    now = time.monotonic()
    end, repeat_at = now + DOOR_SECONDS, now + REPEAT_SECONDS
    while door.is_needed and now < end:
        if select.select([passt], [], [], max(0, repeat_at - now))[0]:
            chunk = os.read(passt, CHUNK_BYTES)
            if not chunk:
                return
            buffer += chunk
            frames = take_frames(buffer)
            door.look_in(frames)
            write_all(guest, frames)
        now = time.monotonic()
        if now >= repeat_at:
            write_all(guest, door.repeat())
            repeat_at = now + REPEAT_SECONDS
    write_all(guest, door.open() + buffer)


def main(
    listener: str, passt_end: str, status: str, mac: str, address: str, gateway: str, start: str, ports: str
) -> None:
    passt = int(passt_end)
    try:
        write_all(passt, make_greeting(mac, address, gateway))
        early = wait_for_answer(passt, mac)
        if early is None:
            return
        os.write(int(status), b"+")
        os.close(int(status))
        guest = wait_for_guest(int(listener))
        if os.geteuid() == 0:  # what comes next is what a guest has written
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        door = Door(mac, ports, is_open=start != "new")
        _thread.start_new_thread(carry_in, (passt, guest, door, early))
        carry_out(guest, passt, door)
    except (OSError, ValueError) as error:
        print(f"the guest's network ended: {error}", file=sys.stderr)


def wait_for_guest(listener_descriptor: int) -> int:
    """The connection of the one QEMU that this is for; nobody finds the way here after it."""
    with socket.socket(fileno=listener_descriptor) as listener:
        listener.settimeout(CONNECT_SECONDS)
        try:
            guest, _ = listener.accept()
        finally:
            os.unlink(listener.getsockname())
        guest.setblocking(True)
        return guest.detach()
