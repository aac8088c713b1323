# SPDX-License-Identifier: Apache-2.0
"""Telling a woken guest who it is, against a guest that is played here."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time

import pytest

from volant.contract.guest_config import Control, GuestConfig
from volant.errors import GuestFailed, Unreachable
from volant.volantd.guest.settings_line import send_settings, send_wake, wait_for_template

CONFIG = GuestConfig(
    vm_id="7f3c",
    vm_name="web",
    hostname="web",
    control=Control(host_key="key", authorized_keys=["ssh-ed25519 A"]),
)


async def play(guest: socket.socket, answer: str, before: bytes = b"") -> bytes:
    """Read one message whole and answer with its word; what followed its line."""
    loop = asyncio.get_running_loop()
    guest.setblocking(False)
    received = b""
    while b"\n" not in received:
        received += await loop.sock_recv(guest, 4096)
    line, _, body = received.partition(b"\n")
    prefix, word, count = line.split(b" ")
    assert prefix == b"VOLANT-SETTINGS"
    while len(body) < int(count):
        body += await loop.sock_recv(guest, 4096)
    await loop.sock_sendall(guest, before + b"\r\n" + answer.format(word=word.decode()).encode())
    return body


def pair() -> tuple[socket.socket, socket.socket]:
    host, guest = socket.socketpair()
    host.setblocking(False)
    return host, guest


async def test_settings_arrive_whole_and_what_an_earlier_host_left_is_skipped() -> None:
    host, guest = pair()
    playing = asyncio.create_task(
        play(guest, "kestrel answers {word} ok\r\n", before=b"kestrel answers old no\r\n" * 9)
    )
    await send_settings(host, CONFIG, ["52:54:00:00:00:01"], timeout_seconds=5)
    sent = json.loads(await playing)
    assert GuestConfig.model_validate(sent["guest_config"]) == CONFIG
    assert sent["hardware_addresses"] == ["52:54:00:00:00:01"]
    assert len(base64.b64decode(sent["entropy_base64"])) >= 32
    assert host.fileno() == -1


async def test_a_guest_that_goes_on_is_told_the_time_and_random_bytes() -> None:
    host, guest = pair()
    playing = asyncio.create_task(play(guest, "kestrel answers {word} ok\r\n"))
    await send_wake(host, timeout_seconds=5)
    sent = json.loads(await playing)
    assert abs(sent["unix_time_nanoseconds"] - time.time_ns()) < 5_000_000_000
    assert len(base64.b64decode(sent["entropy_base64"])) >= 32
    assert "guest_config" not in sent


async def test_no_two_guests_are_given_the_same_random_bytes() -> None:
    given = set()
    for _ in range(3):
        host, guest = pair()
        playing = asyncio.create_task(play(guest, "kestrel answers {word} ok\r\n"))
        await send_settings(host, CONFIG, [], timeout_seconds=5)
        given.add(json.loads(await playing)["entropy_base64"])
    assert len(given) == 3


async def test_a_guest_that_refuses_says_why() -> None:
    host, guest = pair()
    playing = asyncio.create_task(play(guest, "kestrel answers {word} this guest takes no settings now\r\n"))
    with pytest.raises(GuestFailed, match="takes no settings now"):
        await wait_for_template(host, timeout_seconds=5)
    assert await playing == b""


async def test_a_guest_that_says_nothing_or_nonsense_is_given_up() -> None:
    host, guest = pair()
    with pytest.raises(Unreachable, match=r"0\.05 s"):
        await wait_for_template(host, timeout_seconds=0.05)
    host, guest = pair()
    guest.send(b"nonsense")
    guest.close()
    with pytest.raises(Unreachable):
        await wait_for_template(host, timeout_seconds=5)
