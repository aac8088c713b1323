# SPDX-License-Identifier: Apache-2.0
"""volantd's one SSH connection to a guest's agent, over the VM's control socket.

The hypervisor's socket accepts as soon as the process runs; the handshake goes on once the agent has opened its end,
so connecting early costs nothing and needs no retry loop. The guest is not trusted: its host key is pinned, and only
the channels below are ever opened or accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from volant.contract.agent import (
    FORWARD_BIND_ADDRESS,
    SESSION_SOCKET,
    USER_VARIABLE,
    WORKING_DIR_VARIABLE,
)
from volant.errors import GuestFailed, Unreachable
from volant.volantd.guest.ssh_library import asyncssh
from volant.volantd.guest.stream import AgentStream

# A guest that hangs or is gone with its process is noticed after about this many seconds.
KEEPALIVE_SECONDS = 15
KEEPALIVE_COUNT = 4
CHUNK_BYTES = 1 << 16
# Between a host and its own guest nobody listens, so nothing has to last until there are quantum computers.
KEY_EXCHANGE = ("curve25519-sha256",)
EXEC_OUTPUT_LIMIT_BYTES = 16 << 20
TERMINAL = "xterm-256color"

SecretAnswer = Callable[[int], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class ExecOutcome:
    """`exit_code` is 128 plus the number for a command that a signal ended, as shells count."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class ByteReader(Protocol):
    async def read(self, count: int) -> bytes: ...


class ByteWriter(Protocol):
    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Closable(Protocol):
    def close(self) -> None: ...


class GuestConnection:
    """An open connection. Made by `open_connection`; every method raises Unreachable once the stream is broken."""

    def __init__(self, ssh: asyncssh.SSHClientConnection) -> None:
        self.ssh = ssh

    async def wait_closed(self) -> None:
        """Wait until the stream has ended, for whatever reason."""
        await self.ssh.wait_closed()

    async def run(
        self,
        command: Sequence[str],
        *,
        user: str = "",
        working_dir: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_seconds: float = 60.0,
    ) -> ExecOutcome:
        """Run one command in the guest. GuestFailed when it does not end in time or says too much."""
        variables = _make_variables(user, working_dir, env or {})
        with _reachable():
            async with self.ssh.create_process(shlex.join(command), env=variables, encoding=None) as process:
                # A command may have ended before it was given anything to read.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(stdin)
                    process.stdin.write_eof()
                try:
                    async with asyncio.timeout(timeout_seconds):
                        stdout, stderr = await asyncio.gather(
                            _read_bounded(process.stdout), _read_bounded(process.stderr)
                        )
                        await process.wait(check=False)
                except TimeoutError:
                    process.kill()
                    raise GuestFailed(
                        f"cannot run {command[0]} in the guest: no end after {timeout_seconds:g} s"
                    ) from None
        return ExecOutcome(read_exit_code(process), stdout, stderr)

    @asynccontextmanager
    async def open_process(
        self,
        command: Sequence[str],
        *,
        user: str = "",
        working_dir: str = "",
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """One command, to be talked with; with a terminal of so many columns and rows where that is given."""
        variables = _make_variables(user, working_dir, env or {})
        with _reachable():
            process = await self.ssh.create_process(
                shlex.join(command), env=variables, encoding=None,
                term_type=TERMINAL if terminal else None, term_size=terminal or (0, 0),
            )  # fmt: skip
        async with process:
            try:
                yield process
            finally:
                process.close()

    @asynccontextmanager
    async def open_workload(self, columns: int, rows: int) -> AsyncIterator[asyncssh.SSHClientProcess[bytes]]:
        """The workload's own input and output; its terminal, where it has one, gets that size (0: the one it has)."""
        with _reachable("cannot attach to the workload"):
            process = await self.ssh.create_process(subsystem="attach", encoding=None)
            if columns and rows:
                process.change_terminal_size(columns, rows)
        async with process:
            try:
                yield process
            finally:
                process.close()

    @asynccontextmanager
    async def open_session_stream(self) -> AsyncIterator[tuple[ByteReader, ByteWriter]]:
        """A stream to the agent's SSH server for people."""
        with _reachable():
            reader, writer = await self.ssh.open_unix_connection(SESSION_SOCKET, encoding=None)
        async with _closing(writer):
            yield reader, writer

    @asynccontextmanager
    async def open_shell(
        self, columns: int, rows: int, *, user: str = ""
    ) -> AsyncIterator[tuple[ByteReader, ByteWriter, Callable[[int, int], None]]]:
        """A terminal with a shell in it, and how its size is changed (columns, rows)."""
        with _reachable("cannot open a shell in the guest"):
            process = await self.ssh.create_process(
                term_type=TERMINAL,
                term_size=(columns, rows),
                env={USER_VARIABLE: user} if user else {},
                encoding=None,
            )
        async with _closing(process):
            yield process.stdout, process.stdin, process.change_terminal_size

    @asynccontextmanager
    async def open_port_stream(
        self, port: int, host: str = "workload"
    ) -> AsyncIterator[tuple[ByteReader, ByteWriter]]:
        """A stream to a TCP port in the guest. GuestFailed where nobody listens there."""
        with _reachable(f"cannot connect to port {port} in the guest"):
            reader, writer = await self.ssh.open_connection(host, port, encoding=None)
        async with _closing(writer):
            yield reader, writer

    async def answer_secrets(self, ports: Sequence[int], answer: SecretAnswer) -> None:
        """From now on, whoever connects to CID 2 at one of `ports` is sent `answer(port)`, then end-of-file.

        An answer of None closes the stream without a byte.
        """

        def make_handler(port: int) -> Callable[[str, int], Callable[..., Awaitable[None]]]:
            async def serve(reader: ByteReader, writer: ByteWriter) -> None:
                async with _closing(writer):
                    content = await answer(port)
                    if content is not None:
                        writer.write(content)
                        await writer.drain()
                        writer.write_eof()

            return lambda _host, _port: serve

        for port in ports:
            with _reachable(f"cannot open vsock port {port} in the guest"):
                await self.ssh.start_server(make_handler(port), FORWARD_BIND_ADDRESS, port, encoding=None)


@asynccontextmanager
async def open_connection(
    stream_to_agent: socket.socket, client_key: str, host_public_key: str, *, timeout_seconds: float
) -> AsyncIterator[GuestConnection]:
    """Open SSH on a connected stream to the agent, which is closed on leaving.

    `client_key` is our private key in OpenSSH's form, `host_public_key` the agent's one line. Unreachable when the
    hypervisor does not accept, the agent does not answer in `timeout_seconds`, or shows another key.
    """
    try:
        stream = AgentStream(stream_to_agent)
        ssh = await asyncssh.connect(
            "guest",
            tunnel=stream,
            client_version=stream.client_version,
            username="root",
            client_keys=[asyncssh.import_private_key(client_key)],
            known_hosts=([asyncssh.import_public_key(host_public_key)], [], []),
            config=None,
            agent_path=None,
            preferred_auth="publickey",
            kex_algs=KEY_EXCHANGE,
            compression_algs=None,
            login_timeout=timeout_seconds,
            connect_timeout=timeout_seconds,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVE_COUNT,
        )
    except (OSError, asyncssh.Error, TimeoutError) as error:
        stream_to_agent.close()
        raise Unreachable(f"cannot reach the guest's agent: {error}") from error
    except BaseException:
        stream_to_agent.close()
        raise
    try:
        yield GuestConnection(ssh)
    finally:
        ssh.abort()
        with contextlib.suppress(Exception):
            await ssh.wait_closed()


def _make_variables(user: str, working_dir: str, env: Mapping[str, str]) -> dict[str, str]:
    choices = {USER_VARIABLE: user, WORKING_DIR_VARIABLE: working_dir}
    return {**env, **{name: value for name, value in choices.items() if value}}


def read_exit_code(process: asyncssh.SSHClientProcess[bytes]) -> int:
    """As a shell has it: 128 and the number of the signal that ended it; -1 where nobody knows."""
    if process.exit_signal is not None:
        return 128 + int(getattr(signal, f"SIG{process.exit_signal[0]}", 0))
    return -1 if process.exit_status is None else process.exit_status


async def _read_bounded(reader: asyncssh.SSHReader[bytes]) -> bytes:
    content = bytearray()
    while chunk := await reader.read(CHUNK_BYTES):
        content += chunk
        if len(content) > EXEC_OUTPUT_LIMIT_BYTES:
            raise GuestFailed(
                f"cannot keep the command's output: more than {EXEC_OUTPUT_LIMIT_BYTES >> 20} MiB",
                resolution="use 'volar vms ssh', which streams",
            )
    return bytes(content)


@asynccontextmanager
async def _closing(writer: Closable) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            writer.close()


@contextlib.contextmanager
def _reachable(what: str = "cannot use the guest's control stream") -> Iterator[None]:
    """SSH's own errors as ours."""
    try:
        yield
    except asyncssh.ChannelOpenError as error:
        raise GuestFailed(f"{what}: {error.reason}") from error
    except (asyncssh.Error, OSError) as error:
        raise Unreachable(f"{what}: {error}") from error
