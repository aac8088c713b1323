# SPDX-License-Identifier: Apache-2.0
"""The host's library (asyncssh) against the agent's end of the control stream, and the golden conversations."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pydantic import BaseModel

from integration.kestrel.conftest import SshServer
from volant.contract.agent import FORWARD_BIND_ADDRESS, AgentState, AgentStats, Hello, LogEntry

GOLDEN = sorted((Path(__file__).resolve().parents[3] / "contract" / "golden" / "control").glob("*.json"))
Start = Callable[..., SshServer]

# What a method's result is read as; the others have no model.
RESULTS: dict[str, type[BaseModel]] = {"hello": Hello, "state.get": AgentState, "stats.get": AgentStats}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_models_accept_what_the_agent_says(path: Path) -> None:
    asked: dict[Any, str] = {}
    for message in json.loads(path.read_text())["exchange"]:
        if host := message.get("host"):
            asked[host["id"]] = host["method"]
            continue
        guest = message["guest"]
        if guest.get("method") == "state":
            AgentState.model_validate(guest["params"]["state"])
        elif guest.get("method") == "log":
            assert [LogEntry.model_validate(entry) for entry in guest["params"]["entries"]]
        elif "result" in guest and (model := RESULTS.get(asked[guest["id"]])):
            model.model_validate(guest["result"])


@asynccontextmanager
async def connect(server: SshServer) -> AsyncIterator[asyncssh.SSHClientConnection]:
    stream = socket.socket(socket.AF_UNIX)
    stream.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stream, server.address)
    connection = await asyncssh.connect(
        "guest", sock=stream, username="volantd", client_keys=[str(server.client_key)],
        known_hosts=([asyncssh.import_public_key(server.host_key)], [], []), config=None, agent_path=None,
    )  # fmt: skip
    async with connection:
        yield connection


async def test_control_is_a_subsystem(start_server: Start) -> None:
    async with connect(start_server("-trusted")) as connection:
        process = await connection.create_process(subsystem="control")

        async def receive() -> Any:
            return json.loads(await asyncio.wait_for(process.stdout.readline(), 20))

        async def call(number: int, method: str, params: dict[str, Any]) -> Any:
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(message) + "\n")
            return await receive()

        hello = Hello.model_validate((await call(1, "hello", {"versions": [1, 7]}))["result"])
        assert hello.version == 1
        assert AgentState.model_validate((await call(2, "state.get", {}))["result"]).phase == "running"
        assert (await call(3, "logs.read", {"follow": True}))["params"]["entries"][0]["line"] == "first"
        both = [await call(4, "logs.cancel", {"id": 3}), await receive()]
        assert {answer["id"] for answer in both} == {3, 4}
        # A key that is authorized this way opens a session at once.
        key = asyncssh.generate_private_key("ssh-ed25519")
        public = key.export_public_key().decode()
        assert "result" in await call(5, "ssh.authorize", {"public_key": public, "ttl_seconds": 60})
        process.stdin.write_eof()
        assert await asyncio.wait_for(process.stdout.read(), 20) == ""


async def test_sessions_choose_their_user_and_folder(start_server: Start) -> None:
    async with connect(start_server("-trusted")) as connection:
        done = await connection.run("pwd; env", env={"KESTREL_WORKING_DIR": "/usr"})
        assert str(done.stdout).startswith("/usr\n") and "KESTREL_" not in str(done.stdout)
        done = await connection.run("true", env={"KESTREL_USER": "no-such-user"})
        assert done.exit_status == 126 and "no-such-user" in str(done.stderr)


async def test_sftp(start_server: Start) -> None:
    server = start_server("-trusted")
    local, remote = server.folder / "local", server.folder / "remote"
    local.write_bytes(b"content" * 100_000)
    async with connect(server) as connection, connection.start_sftp_client() as sftp:
        await sftp.put(str(local), str(remote))
        assert remote.read_bytes() == local.read_bytes()
        assert "remote" in await sftp.listdir(str(server.folder))
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.stat("/no/such/file")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def check_echo(reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
    writer.write(b"hello")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == b"hello"


async def test_streams_into_the_guest(start_server: Start) -> None:
    server = start_server("-trusted")
    tcp = await asyncio.start_server(echo, "127.0.0.1", 0)
    path = str(server.folder / "echo")
    local = await asyncio.start_unix_server(echo, path)
    port = tcp.sockets[0].getsockname()[1]
    async with tcp, local, connect(server) as connection:
        for host in ("127.0.0.1", "workload"):
            await check_echo(*await connection.open_connection(host, port, encoding=None))
        await check_echo(*await connection.open_unix_connection(path, encoding=None))
        with pytest.raises(asyncssh.ChannelOpenError, match="refused"):
            await connection.open_connection("workload", 1, encoding=None)


async def test_streams_out_of_the_guest(start_server: Start) -> None:
    server = start_server("-trusted")
    async with connect(server) as connection:

        async def answer(reader: Any, writer: Any) -> None:
            writer.write(b"secret")
            writer.write_eof()

        forward = await connection.start_server(lambda *_: answer, FORWARD_BIND_ADDRESS, 9000, encoding=None)
        reader, writer = await asyncio.open_unix_connection(f"{server.address}.secret")
        assert await asyncio.wait_for(reader.read(), 20) == b"secret"
        writer.close()
        forward.close()
        await forward.wait_closed()
        tcp = await connection.start_server(lambda *_: answer, "127.0.0.1", 0, encoding=None)
        reader, writer = await asyncio.open_connection("127.0.0.1", tcp.get_port())
        assert await asyncio.wait_for(reader.read(), 20) == b"secret"
        writer.close()
    # With the connection gone nothing of it listens any more.
    for _ in range(400):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", tcp.get_port())
        except OSError:
            break
        writer.close()
        await asyncio.sleep(0.01)
    else:
        pytest.fail("a forwarded port outlived its connection")
