# SPDX-License-Identifier: Apache-2.0
"""Which frames of a guest leave, and that no way of cutting the stream lets others through."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.volantd.network.frame_filter import (
    ACK,
    LARGEST_FRAME_BYTES,
    MOST_WAITING,
    RST,
    SYN,
    Door,
    enclose,
    list_frames,
    make_greeting,
    may_pass,
    read_frame,
    read_segment,
    select_frames,
    take_frames,
    wait_for_answer,
)

MAC = "52:54:00:00:00:07"
GUEST, GATEWAY = socket.inet_aton("10.0.2.15"), socket.inet_aton("10.0.2.2")


def make_frame(destination: str, kind: bytes = b"\x08\x00") -> bytes:
    return bytes(12) + kind + bytes(16) + socket.inet_aton(destination) + b"payload"


def make_segment(flags: int, client: int, *, port: int = 80, is_from_guest: bool = False) -> bytearray:
    """As it is on the wire, after its length; with an option in the packet's head, to which its length says so."""
    own = bytes.fromhex(MAC.replace(":", ""))
    macs, addresses, ports = own + bytes(6), GATEWAY + GUEST, (client, port)
    if is_from_guest:
        macs, addresses, ports = bytes(6) + own, GUEST + GATEWAY, (port, client)
    packet = b"\x46" + bytes(8) + b"\x06" + bytes(2) + addresses + bytes(4)
    segment = (
        b"".join(number.to_bytes(2, "big") for number in ports) + bytes(8) + bytes([0x50, flags]) + bytes(6)
    )
    return bytearray(enclose(macs + b"\x08\x00" + packet + segment))


@pytest.mark.parametrize(
    "destination", ["10.0.2.2", "8.8.8.8", "255.255.255.255", "126.255.255.255", "128.0.0.1"]
)
def test_what_is_for_others_passes(destination: str) -> None:
    assert may_pass(make_frame(destination))


@pytest.mark.parametrize("destination", ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.0.0.7"])
def test_what_means_the_host_itself_does_not(destination: str) -> None:
    assert not may_pass(make_frame(destination))


@pytest.mark.parametrize("kind", [b"\x86\xdd", b"\x81\x00", b"\x88\xa8", b"\x00\x00"])
def test_other_protocols_do_not_and_could_hide_what_they_carry(kind: bytes) -> None:
    assert not may_pass(make_frame("8.8.8.8", kind))


def test_a_stump_of_a_frame_does_not() -> None:
    frame = make_frame("8.8.8.8")
    assert not any(may_pass(frame[:length]) for length in range(34))


def test_the_greeting_is_an_arp_request_in_the_guests_name() -> None:
    greeting = make_greeting("52:54:00:00:00:01", "10.0.2.15", "10.0.2.2")
    assert int.from_bytes(greeting[:4], "big") == len(greeting) - 4 == 42
    assert may_pass(greeting[4:])
    assert greeting[10:16] == greeting[26:32] == bytes.fromhex("525400000001")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000))), st.integers(1, 700))
def test_frames_are_told_apart_wherever_the_stream_is_cut(frames: list[tuple[bool, int]], step: int) -> None:
    wanted = bytearray()
    stream = bytearray()
    for is_ours, size in frames:
        frame = enclose(make_frame("8.8.8.8" if is_ours else "127.0.0.1") + bytes(size))
        stream += frame
        wanted += frame if is_ours else b""
    passed = bytearray()
    buffer = bytearray()
    for start in range(0, len(stream), step):
        buffer += stream[start : start + step]
        passed += select_frames(buffer)
    assert passed == wanted
    assert buffer == b""


def test_a_length_that_no_frame_has_ends_it() -> None:
    with pytest.raises(ValueError, match="frame of"):
        select_frames(bytearray((LARGEST_FRAME_BYTES + 1).to_bytes(4, "big")))


def test_one_frame_is_read_and_not_a_byte_of_the_next_however_they_come() -> None:
    ours, theirs = socket.socketpair()
    first, second = b"a" * 42, b"b" * 60
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in (first, second))

    def send() -> None:
        for byte in stream:  # passt sends lengths and frames apart
            theirs.send(bytes([byte]))
        theirs.close()

    sender = threading.Thread(target=send)
    sender.start()
    assert read_frame(ours.fileno()) == first
    assert read_frame(ours.fileno()) == second
    assert read_frame(ours.fileno()) == b""
    sender.join()
    ours.close()


def test_who_connects_before_passt_knows_the_guest_is_meant_for_it() -> None:
    ours, theirs = socket.socketpair()
    early = make_segment(SYN, 40_000)
    early[4:10] = b"\xff" * 6
    answer = enclose(bytes(12) + b"\x08\x06" + bytes(28))
    later = make_segment(SYN, 40_001)
    theirs.sendall(early + early + answer + later)
    found = wait_for_answer(ours.fileno(), MAC)
    assert found == 2 * make_segment(SYN, 40_000)
    theirs.close()
    assert read_frame(ours.fileno()) == later[4:]
    assert wait_for_answer(ours.fileno(), MAC) is None
    ours.close()
    door = Door(MAC, "80")
    door.look_in(bytes(early))
    assert door.repeat() == make_segment(SYN, 40_000)


@given(st.lists(st.binary(max_size=300)), st.integers(1, 100))
def test_whole_frames_are_taken_wherever_the_stream_is_cut(frames: list[bytes], step: int) -> None:
    stream = b"".join(map(enclose, frames))
    buffer, taken = bytearray(), b""
    for start in range(0, len(stream), step):
        buffer += stream[start : start + step]
        taken += take_frames(buffer)
    assert (list(list_frames(taken)), buffer) == (frames, b"")


@given(st.binary(max_size=80))
def test_no_frame_of_a_guest_is_too_odd_to_be_looked_at(tail: bytes) -> None:
    for frame in (tail, bytes(12) + b"\x08\x00" + tail, bytes(12) + b"\x08\x00" + bytes(9) + b"\x06" + tail):
        read_segment(frame)
        assert Door(MAC, "80").look_out(bytearray(enclose(frame))) == enclose(frame)


def test_who_connects_before_anything_listens_is_sent_in_again_and_hears_the_first_answer_only() -> None:
    door = Door(MAC, "80")
    first = make_segment(SYN, 40_000)
    door.look_in(bytes(first))
    door.look_in(bytes(make_segment(ACK, 40_000)))
    refusal = make_segment(RST | ACK, 40_000, is_from_guest=True)
    assert door.look_out(refusal) == b""
    assert door.repeat() == first
    answer = make_segment(SYN | ACK, 40_000, is_from_guest=True)
    assert door.look_out(answer + answer) == answer
    assert door.repeat() == b""
    assert not door.is_needed
    # From here on a connection that ends is one that ends.
    assert door.look_out(refusal) == refusal


def test_all_who_wait_are_let_in_once_the_port_is_open_and_new_ones_hear_what_the_guest_says() -> None:
    door = Door(MAC, "80,443")
    for client in (40_000, 40_001):
        door.look_in(bytes(make_segment(SYN, client)))
        door.look_out(make_segment(RST, client, is_from_guest=True))
    door.look_out(make_segment(SYN | ACK, 40_000, is_from_guest=True))
    assert door.repeat() == make_segment(SYN, 40_001)
    door.look_in(bytes(make_segment(SYN, 40_002)))
    refusal = make_segment(RST | ACK, 40_002, is_from_guest=True)
    assert door.look_out(refusal) == refusal
    door.look_out(make_segment(SYN | ACK, 40_001, is_from_guest=True))
    assert door.is_needed  # nobody has been seen to listen at the other port
    assert not door.is_open


def test_who_gives_up_is_forgotten_and_may_come_again_from_the_same_port() -> None:
    door = Door(MAC, "80")
    door.look_in(bytes(make_segment(SYN, 40_000)))
    door.look_in(bytes(make_segment(RST, 40_000)))
    assert door.repeat() == b""
    answer = make_segment(SYN | ACK, 40_000, is_from_guest=True)
    for _ in range(2):
        door.look_in(bytes(make_segment(SYN, 40_000)))
        assert door.look_out(answer) == answer


def test_a_door_that_is_opened_sends_everybody_in_once_more_and_holds_nothing_back() -> None:
    door = Door(MAC, "80")
    for client in range(MOST_WAITING + 1):
        door.look_in(bytes(make_segment(SYN, 30_000 + client)))
    too_many = make_segment(RST, 30_000 + MOST_WAITING, is_from_guest=True)
    assert door.look_out(too_many) == too_many
    assert len(list(list_frames(door.open()))) == MOST_WAITING
    assert door.is_open
    assert door.repeat() == b""


def test_the_guest_is_waited_for_until_it_speaks_from_its_own_address() -> None:
    door = Door(MAC, "")
    waiting = threading.Thread(target=door.wait_for_guest)
    waiting.start()
    other = bytearray(enclose(make_frame("8.8.8.8")))
    assert door.look_out(other) == other
    waiting.join(0.05)
    assert waiting.is_alive()
    door.look_out(make_segment(ACK, 1, is_from_guest=True))
    waiting.join(30)
    assert not waiting.is_alive()
    assert not door.is_needed
