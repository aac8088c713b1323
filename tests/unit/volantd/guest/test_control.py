# SPDX-License-Identifier: Apache-2.0
"""Whatever a guest writes into its control session, the daemon's calls end with an error of ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.contract.agent import MOST_ITEMS, MOST_NAME, MOST_TEXT
from volant.contract.guest_config import Control, GuestConfig
from volant.errors import GuestFailed, NotFound, Unreachable
from volant.volantd.guest.control import LINE_LIMIT_BYTES, ControlClient


class Guest:
    """The far side of a session: what it was asked, and what it says next."""

    def __init__(self) -> None:
        self.output = asyncio.StreamReader(limit=4 * LINE_LIMIT_BYTES)
        self.asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        stdin = SimpleNamespace(write=lambda line: self.asked.put_nowait(json.loads(line)))
        self.client = ControlClient(cast("Any", SimpleNamespace(stdin=stdin, stdout=self.output)))

    async def answer(self, **reply: Any) -> None:
        number = (await self.asked.get())["id"]
        self.output.feed_data(json.dumps({"jsonrpc": "2.0", "id": number, **reply}).encode() + b"\n")


@contextlib.asynccontextmanager
async def start_guest() -> AsyncIterator[Guest]:
    guest = Guest()
    receiving = asyncio.create_task(guest.client.receive())
    try:
        yield guest
    finally:
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"id": ' + b"9" * 10_000 + b"}",
        b'{"id": []}',
        b'{"id": 1}',
        b'{"id": 1, "error": null}',
        b'{"id": 1, "error": {"code": 1e999, "message": ""}}',
        b'{"method": "state"}',
        b'{"method": "state", "params": {"state": {"phase": "unheard-of"}}}',
        b'{"method": "state", "params": {"state": {"phase": "running", "result": %d}}}' % (1 << 63),
        b'{"method": "state", "params": {"state": {"phase": "running", "boot": {"module_load_ms": NaN}}}}',
        b'{"method": "state", "params": {"state": {"phase": "running", "processes": [{"name": {}}]}}}',
        b'{"method": "state", "params": {"state": {"phase": "running", "checks": "all"}}}',
        b'{"method": "log", "params": []}',
        b'{"method": "log", "params": {"id": {}}}',
        b" " * (LINE_LIMIT_BYTES + 1),
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)
async def test_nonsense_ends_the_session(line: bytes) -> None:
    async with start_guest() as guest:
        call = asyncio.create_task(guest.client.call("clock.set", timeout_seconds=None))
        await guest.asked.get()
        guest.output.feed_data(line + b"\n")
        with pytest.raises(Unreachable):
            await call
        with pytest.raises(Unreachable):
            await guest.client.get_state()


async def test_an_answer_of_another_shape_is_the_guests_failure() -> None:
    async with start_guest() as guest:
        for ask in (
            guest.client.get_state(),
            guest.client.get_stats(),
            guest.client.authorize_ssh("ssh-ed25519 AAAA", 60),
        ):
            call = asyncio.ensure_future(ask)
            await guest.answer(result=[1])
            with pytest.raises(GuestFailed, match="invalid answer to"):
                await call


async def test_a_copy_is_told_who_it_is_and_given_randomness() -> None:
    config = GuestConfig(
        vm_id="1", vm_name="copy", hostname="copy", control=Control(host_key="key", authorized_keys=[])
    )
    async with start_guest() as guest:
        call = asyncio.create_task(guest.client.become(config, bytes(range(32))))
        asked = await guest.asked.get()
        guest.output.feed_data(json.dumps({"id": asked["id"], "result": {}}).encode() + b"\n")
        await call
    assert asked["method"] == "clone.become"
    assert GuestConfig.model_validate(asked["params"]["guest_config"]) == config
    assert base64.b64decode(asked["params"]["entropy_base64"]) == bytes(range(32))


async def test_the_agents_errors_are_ours() -> None:
    async with start_guest() as guest:
        call = asyncio.create_task(guest.client.call("process.start", {"name": "web"}))
        await guest.answer(error={"code": 1, "message": "no process is named web"})
        with pytest.raises(NotFound, match="web"):
            await call


async def test_the_end_of_the_stream_ends_every_call() -> None:
    async with start_guest() as guest:
        calls = [asyncio.create_task(guest.client.call("state.get")) for _ in range(3)]
        for _ in calls:
            await guest.asked.get()
        guest.output.feed_eof()
        for call in calls:
            with pytest.raises(Unreachable, match="closed"):
                await call


async def test_what_is_too_long_is_cut_and_the_rest_is_of_use() -> None:
    async with start_guest() as guest:
        asking = asyncio.create_task(guest.client.get_state())
        process = {"name": "p" * 1000, "state": "running", "reason": ""}
        await guest.answer(
            result={
                "phase": "running",
                "health": "healthy",
                "health_reason": "x" * 100_000,
                "reason": "half \ud800 a character",
                "warnings": ["w"] * 5000,
                "processes": [process | {"reason": "r" * 10_000}]
                + [{"name": "p", "state": "running"}] * 2000,
                "cloud_init": {"errors": ["e" * 10_000] * 20},
            }
        )
        state = await asking
        assert (state.health, state.reason) == ("healthy", "half ? a character")
        assert len(state.health_reason) == MOST_TEXT
        assert (len(state.warnings), len(state.processes)) == (MOST_ITEMS, MOST_ITEMS)
        assert (len(state.processes[0].name), len(state.processes[0].reason)) == (MOST_NAME, MOST_TEXT)
        assert {len(text) for text in state.cloud_init.errors} == {MOST_TEXT}


async def test_a_reason_that_is_no_text_can_be_passed_on() -> None:
    async with start_guest() as guest:
        for message in ("half \ud800 a character", {"a": "\udfff"}, "x" * 100_000):
            call = asyncio.create_task(guest.client.call("clock.set"))
            await guest.answer(error={"code": 3, "message": message})
            with pytest.raises(GuestFailed) as caught:
                await call
            assert len(str(caught.value).encode()) <= 2000


async def test_an_endless_line_ends_the_session() -> None:
    async with start_guest() as guest:
        call = asyncio.create_task(guest.client.call("clock.set", timeout_seconds=None))
        await guest.asked.get()
        for _ in range(5):
            guest.output.feed_data(b"x" * LINE_LIMIT_BYTES)
            await asyncio.sleep(0)
        with pytest.raises(Unreachable):
            await call


async def test_answers_that_nobody_asked_for_are_dropped() -> None:
    async with start_guest() as guest:
        log = b'{"method": "log", "params": {"id": 9}}'
        for line in (b'{"id": 77, "result": 1}', b'{"id": null, "error": 5}', log, b"{}"):
            guest.output.feed_data(line + b"\n")
        asking = asyncio.create_task(guest.client.call("clock.set"))
        await guest.answer(result={})
        assert await asking == {}
