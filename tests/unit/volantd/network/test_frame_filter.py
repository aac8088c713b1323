# SPDX-License-Identifier: Apache-2.0
"""Which frames of a guest leave, and that no way of cutting the stream lets others through."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.volantd.network.frame_filter import (
    LARGEST_FRAME_BYTES,
    list_senders,
    make_greeting,
    may_pass,
    read_frame,
    select_frames,
)


def make_frame(destination: str, kind: bytes = b"\x08\x00") -> bytes:
    return bytes(12) + kind + bytes(16) + socket.inet_aton(destination) + b"payload"


def enclose(frame: bytes) -> bytes:
    return len(frame).to_bytes(4, "big") + frame


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


@given(st.lists(st.tuples(st.binary(min_size=6, max_size=6), st.integers(0, 300))))
def test_every_sender_of_frames_is_found(sent: list[tuple[bytes, int]]) -> None:
    frames = b"".join(
        enclose(bytes(6) + sender + make_frame("8.8.8.8")[12:] + bytes(size)) for sender, size in sent
    )
    assert list(list_senders(frames)) == [sender for sender, _ in sent]
