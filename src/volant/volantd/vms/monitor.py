# SPDX-License-Identifier: Apache-2.0
"""Follows one running VM: its process until that ends, its agent over as many connections as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from volant.contract.agent import AgentState, LogQuery
from volant.contract.guest_config import SECRETS_PORT
from volant.errors import Unreachable, VolantError
from volant.volantd.guest.connection import GuestConnection, open_connection
from volant.volantd.guest.control import ControlClient, list_missing_features, open_control
from volant.volantd.hypervisors.base import Machine, MachineEnd, VmSpec
from volant.volantd.tasks import end_tasks
from volant.volantd.vms.answering import answer_at, open_listeners
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.pace import Pace
from volant.volantd.vms.process_log import ProcessLog
from volant.volantd.vms.record import AgentFacts, VmRecord

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.05
LAST_RETRY_SECONDS = 1.0
WRITE_RETRY_SECONDS = 1.0
# A guest whose state changes without end is written down this often and no oftener.
STATE_PAUSE_SECONDS = 0.1
# A loaded host may take this long to boot a guest; the handshake waits on the socket meanwhile.
HANDSHAKE_SECONDS = 60.0
# How often a guest may make us write down its state, and connect to it, beyond a few times at once.
STATE_BURST, STATE_SECONDS = 20, 1.0
CONNECTION_BURST, CONNECTION_SECONDS = 10, 3.0
# How often a guest is told the time, and how late an answer may come for what it was told to be right still.
CLOCK_SECONDS = 30.0
CLOCK_LATE_SECONDS = 1.0

# A workload that goes on answers before we ask: under emulation our handshake takes as much of its processor.
HEAD_START_SECONDS = 0.3

SecretAnswer = Callable[[int], bytes | None]


@dataclass(frozen=True, slots=True)
class Guest:
    """The open connection to a VM's agent and the control session on it."""

    connection: GuestConnection
    control: ControlClient


class VmMonitor:
    """One VM from its start (or adoption) to its end. What it learns goes out through the three callbacks."""

    def __init__(
        self,
        record: VmRecord,
        machine: Machine,
        log: ProcessLog,
        answer_secret: SecretAnswer,
        *,
        on_agent: Callable[[AgentFacts], None],
        on_state: Callable[[AgentState], None],
        on_end: Callable[[MachineEnd], Awaitable[None]],
        beside: Callable[[], Coroutine[None, None, None]] | None = None,
        clock_seconds: float = CLOCK_SECONDS,
    ) -> None:
        """`beside`: what else is done for as long as it runs."""
        self.machine = machine
        self.guest: Guest | None = None
        self.kill_reason = ""
        self._record = record
        self._log = log
        self._answer_secret = answer_secret
        self._on_agent, self._on_state, self._on_end = on_agent, on_state, on_end
        self._clock_seconds = clock_seconds
        self._state_pace = Pace(STATE_BURST, STATE_SECONDS)
        self._connection_pace = Pace(CONNECTION_BURST, CONNECTION_SECONDS)
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._wanted = asyncio.Event()
        self._tasks = [asyncio.create_task(self._watch_process(), name=f"process of {record.name}")]
        self._secret_ports = sorted({attached.port or SECRETS_PORT for attached in record.definition.secrets})
        listeners = open_listeners(machine, self._secret_ports, record.name)
        self._tasks += [
            asyncio.create_task(
                answer_at(listener, port, answer_secret), name=f"port {port} of {record.name}"
            )
            for port, listener in listeners.items()
        ]
        self._host_answers = bool(listeners)
        if beside is not None:
            self._tasks.append(asyncio.create_task(beside(), name=f"folders of {record.name}"))
        if record.spec is not None and record.spec.kernel is not None:
            self._tasks.append(asyncio.create_task(self._keep_connected(), name=f"agent of {record.name}"))

    async def wait_connected(self, timeout_seconds: float) -> Guest | None:
        """The agent's connection, once there is one; None when none comes in time or the VM ends."""
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                waits = [asyncio.create_task(event.wait()) for event in (self._connected, self._ended)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
        return self.guest

    async def wait_ended(self) -> None:
        """Until the process has ended and everything has been written down."""
        await self._ended.wait()

    async def release(self) -> None:
        """The daemon ends: let go, the VM runs on."""
        await end_tasks(self._tasks)
        await self.machine.release()

    async def _watch_process(self) -> None:
        end = await self.machine.wait()
        # The agent's last lines are on their way: a moment for the stream to drain before it is cut.
        if self.guest is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.guest.connection.wait_closed(), 0.5)
        await end_tasks(self._tasks)
        await self._tell_end(end)
        self._ended.set()

    async def _tell_end(self, end: MachineEnd) -> None:
        """Again and again until it is written: nobody else knows that the process has ended."""
        while True:
            try:
                await self._on_end(end)
            except Exception as error:
                logger.warning("VM %s: its end cannot be written yet: %s", self._record.name, error)
                await asyncio.sleep(WRITE_RETRY_SECONDS)
            else:
                return

    async def _keep_connected(self) -> None:
        if goes_on(self._record.spec):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), HEAD_START_SECONDS)
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                async with (
                    open_connection(
                        await self.machine.open_control(),
                        self._record.control_key,
                        read_public_key(self._record.host_key),
                        timeout_seconds=HANDSHAKE_SECONDS,
                    ) as connection,
                    open_control(connection) as control,
                ):
                    delay = FIRST_RETRY_SECONDS
                    await self._connection_pace.wait()
                    await self._talk(Guest(connection, control))
            except (VolantError, OSError) as error:
                logger.debug("VM %s: no control stream: %s", self._record.name, error)
            except Exception:
                # Whatever a guest does to its stream must not end the daemon's interest in it.
                logger.exception("VM %s: the control stream failed", self._record.name)
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LAST_RETRY_SECONDS)

    async def _talk(self, guest: Guest) -> None:
        """Everything on one connection, until it breaks."""

        async def answer(port: int) -> bytes | None:
            return self._answer_secret(port)

        hello = guest.control.hello
        missing = list_missing_features(hello)
        try:
            if not self._host_answers:
                await guest.connection.answer_secrets(self._secret_ports, answer)
        except Exception as error:
            # The VM is worth having without; its own processes see a refused connection.
            logger.warning("VM %s: its agent does not take secrets: %s", self._record.name, error)
            missing.append("secrets")
        agent = AgentFacts(
            connected=True, version=hello.agent_version, protocol=hello.version, missing=tuple(missing)
        )
        self.guest = guest
        self._connected.set()
        self._on_agent(agent)
        followers = [
            asyncio.create_task(self._follow_state(guest)),
            asyncio.create_task(self._follow_logs(guest)),
            asyncio.create_task(
                keep_clock(guest.control, self.machine, self._record.name, self._clock_seconds)
            ),
            asyncio.create_task(guest.connection.wait_closed()),
        ]
        try:
            done, _ = await asyncio.wait(followers, return_when=asyncio.FIRST_COMPLETED)
            # A stream that breaks ends several at once: each is asked, the first one's word counts.
            failures = [failure for task in done if (failure := task.exception()) is not None]
            if failures:
                raise failures[0]
        finally:
            self.guest = None
            self._connected.clear()
            await end_tasks(followers)
            if not self._ended.is_set():
                self._on_agent(agent.model_copy(update={"connected": False}))

    async def _follow_state(self, guest: Guest) -> None:
        async for state in guest.control.follow_state():
            self._on_state(state)
            # A guest that changes its mind all the time is heard less often: only its newest state is kept.
            await self._state_pace.wait()
            # Each is written to the database. Of what comes meanwhile the newest counts.
            await asyncio.sleep(STATE_PAUSE_SECONDS)

    async def _follow_logs(self, guest: Guest) -> None:
        boot_id = guest.control.hello.boot_id
        query = LogQuery(cursor=self._log.find_cursor(boot_id), follow=True)
        async for entries in guest.control.read_logs(query):
            self._log.append(boot_id, entries)


def goes_on(spec: VmSpec | None) -> bool:
    """Whether the workload of an emulated machine was up before the machine was."""
    image = spec.wakes_from if spec is not None and spec.accelerator == "tcg" else None
    return image is not None and (image.has_workload or not image.is_template)


async def keep_clock(control: ControlClient, machine: Machine, name: str, every_seconds: float) -> None:
    """A guest's clock stands still while its VM is paused or its host sleeps, and drifts under emulation."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time()
        try:
            await control.set_clock(time.time_ns())
        except Unreachable:
            raise  # the connection is of no use any more; the next one begins with the time
        except VolantError as error:
            # The VM is worth having with a clock that is off.
            logger.debug("VM %s: its clock cannot be set: %s", name, error)
        # A VM that was paused meanwhile has just been told a time that is past.
        late = loop.time() - asked > CLOCK_LATE_SECONDS
        pause = min(CLOCK_LATE_SECONDS, every_seconds) if late else every_seconds
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(machine.wait_resumed(), pause)
