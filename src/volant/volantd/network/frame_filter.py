# SPDX-License-Identifier: Apache-2.0
"""The program between a VM's NIC and passt: it keeps a guest's frames from the host's own loopback services.

passt opens a socket of the host for whatever address a frame names. It does not look whether that is 127.0.0.1 (older
versions) or 0.0.0.0, which Linux takes for the same, so a guest that writes its own frames would reach every service
of the host that trusts loopback. Here such frames end.

Runs as a fork of the fork server (LISTENER PASST STATUS MAC ADDRESS GATEWAY IS_COPY), with the standard library only:
one is started for each VM. Both its ends are UNIX stream sockets with each frame after its length in four bytes, as
QEMU's `-netdev stream` and passt speak. It ends when either side does, and the other one then sees that. A byte is
written to STATUS once passt has answered.

A copy of a guest (IS_COPY) wakes with its original's hardware address, and its card drops what is sent to the one that
it will have. passt sends a connection's first frame once: what comes in before the copy has its own address waits here.
"""

from __future__ import annotations

import _thread
import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_SECONDS = 120.0
# A copy that does not say so is thought to have its own address after this time, in which it has become another VM or
# is given up (`waking.HANDSHAKE_SECONDS`).
OWN_ADDRESS_SECONDS = 60.0
CHUNK_BYTES = 1 << 18
LENGTH_BYTES = 4
# An Ethernet frame of passt's largest MTU with a VLAN tag.
LARGEST_FRAME_BYTES = 65_536 + 18
NOBODY = 65534
ARP = b"\x08\x06"
IPV4 = b"\x08\x00"
# First bytes of destinations that mean the host itself: "this host" (RFC 1122, 3.2.1.3a) and loopback.
HOST_NETWORKS = (0, 127)


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
    return len(frame).to_bytes(LENGTH_BYTES, "big") + frame


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


def list_senders(frames: bytes | bytearray) -> Iterator[bytes]:
    """The hardware addresses that whole frames, each after its length, come from."""
    position = 0
    while position < len(frames):
        begin = position + LENGTH_BYTES
        yield bytes(frames[begin + 6 : begin + 12])
        position = begin + int.from_bytes(frames[position:begin], "big")


def carry_out(guest: int, passt: int, mac: str, is_itself: _thread.LockType) -> None:
    """`is_itself` is let go once the guest has sent something from its own address."""
    buffer, own = bytearray(), bytes.fromhex(mac.replace(":", ""))
    is_awaited = is_itself.locked()
    while chunk := os.read(guest, CHUNK_BYTES):
        buffer += chunk
        if frames := select_frames(buffer):
            write_all(passt, frames)
            if is_awaited and own in list_senders(frames):
                is_awaited = False
                is_itself.release()


def carry_in(passt: int, guest: int, is_itself: _thread.LockType) -> None:
    """Run in a thread of its own, so that no direction waits for the other; ends the process."""
    is_itself.acquire(timeout=OWN_ADDRESS_SECONDS)
    try:
        while chunk := os.read(passt, CHUNK_BYTES):
            write_all(guest, chunk)
    except OSError:
        pass
    finally:
        os._exit(0)


def main(
    listener: str, passt_end: str, status: str, mac: str, address: str, gateway: str, is_copy: str = ""
) -> None:
    passt = int(passt_end)
    try:
        write_all(passt, make_greeting(mac, address, gateway))
        if not read_frame(passt):
            return
        os.write(int(status), b"+")
        os.close(int(status))
        guest = wait_for_guest(int(listener))
        if os.geteuid() == 0:  # what comes next is what a guest has written
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        is_itself = _thread.allocate_lock()
        if is_copy:
            is_itself.acquire()
        _thread.start_new_thread(carry_in, (passt, guest, is_itself))
        carry_out(guest, passt, mac, is_itself)
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
