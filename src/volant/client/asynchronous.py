# SPDX-License-Identifier: Apache-2.0
"""The same calls for asyncio. Each runs in a thread of its own, on a connection of its own.

A call that is cancelled is given up: the daemon finishes what it was asked for.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

from volant.client.client import Client
from volant.client.connection import Connector
from volant.client.running_command import Output, RunningCommand

# How many items of a stream may lie here before the daemon is made to wait.
MOST_WAITING = 1000
_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown")


def _in_thread(
    call: Callable[Concatenate[Client, _Options], _Result],
) -> Callable[Concatenate[AsyncClient, _Options], Coroutine[Any, Any, _Result]]:
    """A call of Client as one to be awaited, with the same options."""

    @functools.wraps(call)
    async def awaited(self: AsyncClient, /, *args: _Options.args, **options: _Options.kwargs) -> _Result:
        return await asyncio.to_thread(call, self.client, *args, **options)

    return awaited


def _as_stream(
    call: Callable[Concatenate[Client, _Options], Iterator[_Item]],
) -> Callable[Concatenate[AsyncClient, _Options], AsyncIterator[_Item]]:
    """A call of Client that yields, for `async for`."""

    @functools.wraps(call)
    def streamed(
        self: AsyncClient, /, *args: _Options.args, **options: _Options.kwargs
    ) -> AsyncIterator[_Item]:
        return _iterate(lambda: call(self.client, *args, **options))

    return streamed


def _as_context(
    call: Callable[Concatenate[Client, _Options], AbstractContextManager[_Item]],
    show: Callable[[_Item], _Shown],
) -> Callable[Concatenate[AsyncClient, _Options], AbstractAsyncContextManager[_Shown]]:
    """A call of Client that is for `with`, for `async with`; `show` makes what it yields one for asyncio."""

    @functools.wraps(call)
    @asynccontextmanager
    async def opened(
        self: AsyncClient, /, *args: _Options.args, **options: _Options.kwargs
    ) -> AsyncIterator[_Shown]:
        context = call(self.client, *args, **options)
        value = await asyncio.to_thread(context.__enter__)
        try:
            yield show(value)
        finally:
            await asyncio.to_thread(context.__exit__, None, None, None)

    return opened


def _as_is(connection: socket.socket) -> socket.socket:
    return connection


class AsyncRunningCommand:
    """As `RunningCommand`, to be awaited."""

    def __init__(self, command: RunningCommand) -> None:
        self._command = command

    @property
    def exit_code(self) -> int | None:
        return self._command.exit_code

    async def write(self, content: bytes) -> None:
        await asyncio.to_thread(self._command.write, content)

    async def close_input(self) -> None:
        await asyncio.to_thread(self._command.close_input)

    async def resize(self, columns: int, rows: int) -> None:
        await asyncio.to_thread(self._command.resize, columns, rows)

    async def wait(self) -> int:
        return await asyncio.to_thread(self._command.wait)

    def __aiter__(self) -> AsyncIterator[Output]:
        return _iterate(lambda: iter(self._command))


class AsyncClient:
    """The API of the daemon at `address`, as `Client` has it."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, connect: Connector | None = None
    ) -> None:
        self.client = Client(address, token, connect=connect)

    get_vm = _in_thread(Client.get_vm)
    list_vms = _in_thread(Client.list_vms)
    create_vm = _in_thread(Client.create_vm)
    wait = _in_thread(Client.wait)
    update_vm = _in_thread(Client.update_vm)
    start_vm = _in_thread(Client.start_vm)
    stop_vm = _in_thread(Client.stop_vm)
    restart_vm = _in_thread(Client.restart_vm)
    delete_vm = _in_thread(Client.delete_vm)
    fork_vm = _in_thread(Client.fork_vm)
    get_vm_stats = _in_thread(Client.get_vm_stats)

    exec = _in_thread(Client.exec)
    logs = _as_stream(Client.logs)
    read_file = _in_thread(Client.read_file)
    write_file = _in_thread(Client.write_file)
    forward_port = _as_context(Client.forward_port, int)
    open_port = _as_context(Client.open_port, _as_is)
    open_exec = _as_context(Client.open_exec, AsyncRunningCommand)
    open_workload = _as_context(Client.open_workload, AsyncRunningCommand)

    list_snapshots = _in_thread(Client.list_snapshots)
    create_snapshot = _in_thread(Client.create_snapshot)
    delete_snapshot = _in_thread(Client.delete_snapshot)
    list_volumes = _in_thread(Client.list_volumes)
    create_volume = _in_thread(Client.create_volume)
    list_deployments = _in_thread(Client.list_deployments)
    get_deployment = _in_thread(Client.get_deployment)
    create_deployment = _in_thread(Client.create_deployment)
    update_deployment = _in_thread(Client.update_deployment)
    roll_back_deployment = _in_thread(Client.roll_back_deployment)
    list_revisions = _in_thread(Client.list_revisions)
    wait_deployment = _in_thread(Client.wait_deployment)
    delete_deployment = _in_thread(Client.delete_deployment)
    delete_volume = _in_thread(Client.delete_volume)
    list_networks = _in_thread(Client.list_networks)
    create_network = _in_thread(Client.create_network)
    delete_network = _in_thread(Client.delete_network)
    list_plugins = _in_thread(Client.list_plugins)
    get_plugin = _in_thread(Client.get_plugin)
    install_plugin = _in_thread(Client.install_plugin)
    upload_plugin = _in_thread(Client.upload_plugin)
    remove_plugin = _in_thread(Client.remove_plugin)
    list_secrets = _in_thread(Client.list_secrets)
    set_secret = _in_thread(Client.set_secret)
    delete_secret = _in_thread(Client.delete_secret)
    list_tokens = _in_thread(Client.list_tokens)
    get_system_info = _in_thread(Client.get_system_info)
    events = _as_stream(Client.events)


async def _iterate(open_items: Callable[[], Iterator[_Item]]) -> AsyncIterator[_Item]:
    """Items of an iterator that blocks, taken from it by a thread that is at most MOST_WAITING ahead.

    The thread ends with the iterator, or with the first item after nobody wants them any more. It keeps no program
    from ending meanwhile.
    """
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[tuple[_Item | None, BaseException | None]]()
    room, is_over = threading.Semaphore(MOST_WAITING), threading.Event()

    def tell(item: _Item | None, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            loop.call_soon_threadsafe(waiting.put_nowait, (item, error))

    def take() -> None:
        try:
            for item in open_items():
                room.acquire()
                if is_over.is_set():
                    return
                tell(item, None)
            tell(None, StopAsyncIteration())
        except BaseException as error:
            tell(None, error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while True:
            item, error = await waiting.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            room.release()
            yield item  # type: ignore[misc]  # None comes with an error alone
    finally:
        is_over.set()
        room.release()
