# SPDX-License-Identifier: Apache-2.0
"""The client of the agent's control protocol (`volant.contract.agent`): calls, and notifications of what was asked for.

Whatever a guest sends is bounded and validated: a line that is too long, no JSON, or not of the contract's shape ends
the session with Unreachable; it never reaches the domain.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from volant import __version__
from volant.contract.agent import PROTOCOL_VERSIONS, AgentState, AgentStats, Hello, LogEntry, LogQuery
from volant.contract.guest_config import GuestConfig
from volant.errors import Conflict, GuestFailed, NotFound, Unreachable, VolantError
from volant.volantd.guest.connection import GuestConnection
from volant.volantd.guest.ssh_library import asyncssh
from volant.volantd.tasks import end_tasks

LINE_LIMIT_BYTES = 1 << 20
CALL_SECONDS = 30.0
# What this host can make use of; an agent that does not name one of them is said to lack it.
WANTED_FEATURES = ("sftp", "streamlocal", "vsock-forward", "workload-forward", "settings-apply")

# What bytes of no sense lead to, a number beyond all bounds and brackets without end among them.
MALFORMED = (ValueError, LookupError, TypeError, ArithmeticError, RecursionError)
_ENTRIES = TypeAdapter(list[LogEntry])
_ERRORS: dict[int, type[VolantError]] = {1: NotFound, 2: Conflict, 3: GuestFailed, 4: GuestFailed}


_Reply = TypeVar("_Reply", bound=BaseModel)


class _Authorized(BaseModel):
    host_key: str


class ControlClient:
    """One control session. Made by `open_control`, which has said hello."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        # A slow reader of logs holds the session's reading back rather than filling memory; states replace each other.
        self._logs: dict[int, asyncio.Queue[list[LogEntry] | None]] = {}
        self._state: AgentState | None = None
        self._state_changed = asyncio.Event()
        self._broken: VolantError | None = None
        self.hello = Hello(version=0, agent_version="")

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        timeout_seconds: float | None = CALL_SECONDS,
    ) -> Any:
        """One call. The agent's error becomes ours by its code; Unreachable when the session is broken or silent."""
        number, future = self._begin(method, params)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            raise Unreachable(f"the guest's agent did not answer {method} in {timeout_seconds:g} s") from None
        finally:
            self._waiting.pop(number, None)

    async def ask(self, kind: type[_Reply], method: str, params: dict[str, Any] | None = None) -> _Reply:
        """One call whose result is of this kind; GuestFailed where the agent answers anything else."""
        result = await self.call(method, params)
        try:
            return kind.model_validate(result)
        except ValidationError as error:
            raise GuestFailed(f"the guest's agent gave an invalid answer to {method}: {error}") from error

    def _begin(self, method: str, params: dict[str, Any] | None) -> tuple[int, asyncio.Future[Any]]:
        if self._broken is not None:
            raise self._broken
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
        except (OSError, asyncssh.Error) as error:
            self._waiting.pop(number, None)
            raise Unreachable(f"the guest's control session is closed: {error}") from error
        return number, future

    async def get_state(self) -> AgentState:
        return await self.ask(AgentState, "state.get")

    async def follow_state(self) -> AsyncIterator[AgentState]:
        """The state now and after each change; only the newest is kept for a slow reader."""
        await self.call("events.subscribe")
        yield await self.get_state()
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            if self._broken is not None:
                raise self._broken
            if self._state is not None:
                yield self._state

    async def read_logs(self, query: LogQuery) -> AsyncIterator[list[LogEntry]]:
        """Entries in the agent's own portions; with `follow` without end."""
        number, future = self._begin("logs.read", query.model_dump())
        entries: asyncio.Queue[list[LogEntry] | None] = asyncio.Queue(16)
        self._logs[number] = entries
        ended = asyncio.ensure_future(_put_when_done(future, entries))
        try:
            while (portion := await entries.get()) is not None:
                yield portion
            await future
        finally:
            ended.cancel()
            self._logs.pop(number, None)
            self._waiting.pop(number, None)
            if query.follow and not future.done() and self._broken is None:
                with contextlib.suppress(VolantError):
                    self._begin("logs.cancel", {"id": number})

    async def get_stats(self) -> AgentStats:
        return await self.ask(AgentStats, "stats.get")

    async def authorize_ssh(self, public_key: str, ttl_seconds: int) -> str:
        """Let this key log in for a while; the public host key of the agent's SSH server for people."""
        params = {"public_key": public_key, "ttl_seconds": ttl_seconds}
        return (await self.ask(_Authorized, "ssh.authorize", params)).host_key

    async def set_clock(self, unix_time_nanoseconds: int) -> None:
        await self.call("clock.set", {"unix_time_nanoseconds": unix_time_nanoseconds})

    async def freeze(self, *, disks: bool) -> None:
        """Hold processes still, and with `disks` file systems whole, for a snapshot; `thaw` lets them go on."""
        await self.call("snapshot.freeze", {"disks": disks})

    async def thaw(self) -> None:
        await self.call("snapshot.thaw")

    async def wake(self, entropy: bytes) -> None:
        """Let a frozen guest go on whose memory was loaded again, with the time of now and fresh random numbers."""
        params = {
            "unix_time_nanoseconds": time.time_ns(),
            "entropy_base64": base64.b64encode(entropy).decode(),
        }
        await self.call("snapshot.wake", params)

    async def become(self, config: GuestConfig, entropy: bytes) -> None:
        """Make a frozen copy of a guest the VM of these settings; at least 32 random bytes make it differ from others.

        This connection was made with the original's keys: the next one needs those of `config`.
        """
        params = {
            "guest_config": config.model_dump(mode="json"),
            "entropy_base64": base64.b64encode(entropy).decode(),
        }
        await self.call("clone.become", params)

    async def take_resources(self) -> None:
        """Make use of processors and memory that have come to the machine."""
        await self.call("resources.online")

    async def grow_volume(self, serial: str) -> None:
        """Have the file system of a volume fill its disk."""
        await self.call("volume.grow", {"serial": serial})

    async def stop(self, action: Literal["poweroff", "reboot"], deadline_seconds: float) -> None:
        """Begin an orderly end; the process ends some time later."""
        await self.call("power.stop", {"action": action, "deadline_seconds": deadline_seconds})

    # -- what comes in ------------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Read until the session ends; run as a task beside the calls."""
        try:
            while True:
                try:
                    line = await self._process.stdout.readuntil(b"\n")
                except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    raise Unreachable(
                        "the guest has closed the control session, or sent a line without an end"
                    ) from None
                if len(line) > LINE_LIMIT_BYTES:
                    raise Unreachable(
                        f"the guest sent a control message of more than {LINE_LIMIT_BYTES} bytes"
                    )
                await self._take(line)
        except asyncio.CancelledError:
            self._break(Unreachable("the control session was closed"))
            raise
        except VolantError as error:
            self._break(error)
        except (OSError, asyncssh.Error) as error:
            self._break(Unreachable(f"the guest's control stream broke: {error}"))
        except MALFORMED as error:
            self._break(Unreachable(f"the guest sent an invalid control message: {error}"))

    async def _take(self, line: bytes) -> None:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("not an object")
        if message.get("method") == "state":
            self._state = AgentState.model_validate(message["params"]["state"])
            self._state_changed.set()
        elif message.get("method") == "log":
            queue = self._logs.get(message["params"]["id"])
            if queue is not None:
                await queue.put(_ENTRIES.validate_python(message["params"]["entries"]))
        elif (future := self._waiting.get(message.get("id", 0))) is not None and not future.done():
            if "error" in message:
                error = message["error"]
                kind = _ERRORS.get(int(error["code"]), GuestFailed)
                future.set_exception(kind(_as_text(error["message"])))
            else:
                future.set_result(message["result"])

    def _break(self, error: VolantError) -> None:
        self._broken = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever waits sees it; nobody waiting is no cause for a warning
        for queue in self._logs.values():
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(None)
        self._state_changed.set()


def _as_text(message: object) -> str:
    """A person reads it: not without end, and no half of a character, which could not be sent on."""
    return str(message)[:2000].encode("utf-8", "replace").decode()


async def _put_when_done(future: asyncio.Future[Any], entries: asyncio.Queue[list[LogEntry] | None]) -> None:
    await asyncio.wait([future])
    await entries.put(None)


@asynccontextmanager
async def open_control(connection: GuestConnection) -> AsyncIterator[ControlClient]:
    """Open the control subsystem and agree on a version; closes on leaving. Unreachable if either fails."""
    try:
        process = await connection.ssh.create_process(subsystem="control", encoding=None)
    except (OSError, asyncssh.Error) as error:
        raise Unreachable(f"cannot open the guest's control session: {error}") from error
    client = ControlClient(process)
    receiving = asyncio.create_task(client.receive())
    try:
        params = {"versions": list(PROTOCOL_VERSIONS), "host_version": __version__}
        client.hello = await client.ask(Hello, "hello", params)
        if client.hello.version not in PROTOCOL_VERSIONS:
            raise Unreachable(
                f"the guest's agent {client.hello.agent_version} speaks control version {client.hello.version},"
                f" this volantd only {', '.join(map(str, PROTOCOL_VERSIONS))}",
                resolution="restart the VM, so that it boots with this host's agent",
            )
        yield client
    finally:
        await end_tasks([receiving])
        process.close()


def list_missing_features(hello: Hello) -> list[str]:
    """What this host would use and this agent does not have."""
    return [feature for feature in WANTED_FEATURES if feature not in hello.features]
