# SPDX-License-Identifier: Apache-2.0
"""The same calls for asyncio. Each runs in a thread of its own, on a connection of its own.

A call that is cancelled is given up: the daemon finishes what it was asked for.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from volant.client.client import Client, Condition
from volant.client.connection import Connector

if TYPE_CHECKING:
    from volant.contract.api_types import (
        Event,
        ExecResult,
        LogLine,
        Plugin,
        Secret,
        Snapshot,
        SystemInfo,
        Token,
        Vm,
        VmCreate,
        VmStats,
        VmUpdate,
        Volume,
    )

# How many items of a stream may lie here before the daemon is made to wait.
MOST_WAITING = 1000
_Item = TypeVar("_Item")


class AsyncClient:
    """The API of the daemon at `address`, as `Client` has it."""

    def __init__(
        self, address: str | None = None, token: str | None = None, *, connect: Connector | None = None
    ) -> None:
        self._client = Client(address, token, connect=connect)

    async def get_vm(self, name: str) -> Vm:
        return await asyncio.to_thread(self._client.get_vm, name)

    async def list_vms(self, **filters: Any) -> list[Vm]:
        return await asyncio.to_thread(self._client.list_vms, **filters)

    async def create_vm(self, request: VmCreate) -> Vm:
        return await asyncio.to_thread(self._client.create_vm, request)

    async def wait(self, name: str, condition: Condition = "healthy", timeout_seconds: float = 300) -> Vm:
        return await asyncio.to_thread(self._client.wait, name, condition, timeout_seconds)

    async def update_vm(self, name: str, request: VmUpdate) -> Vm:
        return await asyncio.to_thread(self._client.update_vm, name, request)

    async def start_vm(self, name: str) -> Vm:
        return await asyncio.to_thread(self._client.start_vm, name)

    async def stop_vm(self, name: str, *, timeout_seconds: float = 30, force: bool = False) -> Vm:
        return await asyncio.to_thread(
            self._client.stop_vm, name, timeout_seconds=timeout_seconds, force=force
        )

    async def restart_vm(self, name: str) -> Vm:
        return await asyncio.to_thread(self._client.restart_vm, name)

    async def delete_vm(self, name: str, *, force: bool = False) -> None:
        await asyncio.to_thread(self._client.delete_vm, name, force=force)

    async def fork_vm(self, name: str, names: Sequence[str]) -> list[Vm]:
        return await asyncio.to_thread(self._client.fork_vm, name, names)

    async def get_vm_stats(self, name: str) -> VmStats:
        return await asyncio.to_thread(self._client.get_vm_stats, name)

    async def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = "", working_dir: str = "",
        env: Mapping[str, str] | None = None, timeout_seconds: float = 60,
    ) -> ExecResult:  # fmt: skip
        return await asyncio.to_thread(
            self._client.exec, name, command, stdin=stdin, user=user, working_dir=working_dir, env=env,
            timeout_seconds=timeout_seconds,
        )  # fmt: skip

    def logs(
        self, name: str, *, follow: bool = False, process: str | None = None, since: str | None = None,
        tail: int | None = None,
    ) -> AsyncIterator[LogLine]:  # fmt: skip
        return _iterate(
            lambda: self._client.logs(name, follow=follow, process=process, since=since, tail=tail)
        )

    def events(self, *, vm: str = "", follow: bool = False) -> AsyncIterator[Event]:
        return _iterate(lambda: self._client.events(vm=vm, follow=follow))

    async def read_file(self, name: str, path: str) -> bytes:
        return await asyncio.to_thread(self._client.read_file, name, path)

    async def write_file(self, name: str, path: str, content: bytes, *, mode: int = 0o644) -> None:
        await asyncio.to_thread(self._client.write_file, name, path, content, mode=mode)

    @asynccontextmanager
    async def forward_port(self, name: str, port: int, *, local_port: int = 0) -> AsyncIterator[int]:
        opened: AbstractContextManager[int] = self._client.forward_port(name, port, local_port=local_port)
        local = await asyncio.to_thread(opened.__enter__)
        try:
            yield local
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)

    async def list_snapshots(self) -> list[Snapshot]:
        return await asyncio.to_thread(self._client.list_snapshots)

    async def create_snapshot(self, vm: str, name: str | None = None) -> Snapshot:
        return await asyncio.to_thread(self._client.create_snapshot, vm, name)

    async def delete_snapshot(self, name: str) -> None:
        await asyncio.to_thread(self._client.delete_snapshot, name)

    async def list_volumes(self) -> list[Volume]:
        return await asyncio.to_thread(self._client.list_volumes)

    async def create_volume(self, name: str, size: str = "10G") -> Volume:
        return await asyncio.to_thread(self._client.create_volume, name, size)

    async def delete_volume(self, name: str) -> None:
        await asyncio.to_thread(self._client.delete_volume, name)

    async def list_plugins(self) -> list[Plugin]:
        return await asyncio.to_thread(self._client.list_plugins)

    async def get_plugin(self, reference: str) -> Plugin:
        return await asyncio.to_thread(self._client.get_plugin, reference)

    async def install_plugin(self, path: Path) -> Plugin:
        return await asyncio.to_thread(self._client.install_plugin, path)

    async def remove_plugin(self, reference: str) -> None:
        await asyncio.to_thread(self._client.remove_plugin, reference)

    async def list_secrets(self) -> list[Secret]:
        return await asyncio.to_thread(self._client.list_secrets)

    async def set_secret(self, name: str, value: bytes) -> Secret:
        return await asyncio.to_thread(self._client.set_secret, name, value)

    async def delete_secret(self, name: str) -> None:
        await asyncio.to_thread(self._client.delete_secret, name)

    async def list_tokens(self) -> list[Token]:
        return await asyncio.to_thread(self._client.list_tokens)

    async def get_system_info(self) -> SystemInfo:
        return await asyncio.to_thread(self._client.get_system_info)


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
