# SPDX-License-Identifier: Apache-2.0
"""The agent with the real ssh and a real server: what the daemon holds lets in, and nothing else does."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncssh
import pytest

from volant.errors import NotFound
from volant.volantd.vms.keys import make_private_key, read_public_key
from volant.volar.ssh_agent import FAILURE, SIGN_REQUEST, answer, serve_agent

KEY = make_private_key()


def sign(data: bytes) -> bytes:
    return asyncssh.import_private_key(KEY).sign(data, b"ssh-ed25519")


async def log_in(folder: Path, key: str) -> int:
    """The exit status of ssh to a server that lets `KEY` in, with an agent that says it has `key`."""

    def greet(process: asyncssh.SSHServerProcess[str]) -> None:
        process.stdout.write("in\n")
        process.exit(0)

    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=asyncssh.import_authorized_keys(read_public_key(KEY)), process_factory=greet,
    )  # fmt: skip
    public = folder / "identity.pub"
    public.write_text(read_public_key(key) + "\n")
    options = {
        "IdentityAgent": folder / "agent", "IdentityFile": public, "IdentitiesOnly": "yes", "BatchMode": "yes",
        "StrictHostKeyChecking": "no", "UserKnownHostsFile": folder / "hosts", "LogLevel": "ERROR",
    }  # fmt: skip
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with serve_agent(folder / "agent", read_public_key(key), sign):
        port = str(server.sockets[0].getsockname()[1])
        client = await asyncio.create_subprocess_exec(
            "ssh",
            "-F",
            "none",
            *words,
            "-p",
            port,
            "root@127.0.0.1",
            "true",
            stderr=asyncio.subprocess.DEVNULL,
        )
        status = await asyncio.wait_for(client.wait(), 60)
    server.close()
    await server.wait_closed()
    return status


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
async def test_the_daemons_signature_lets_the_real_client_in(tmp_path: Path) -> None:
    assert await log_in(tmp_path, KEY) == 0


@pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
async def test_another_key_stays_outside(tmp_path: Path) -> None:
    assert await log_in(tmp_path, make_private_key()) == 255


def test_what_is_not_about_this_key_fails() -> None:
    def refuse(_data: bytes) -> bytes:
        raise NotFound("the VM has gone")

    def request(blob: bytes) -> bytes:
        parts = (len(blob).to_bytes(4, "big") + blob, b"\0\0\0\1x", b"\0\0\0\0")
        return bytes([SIGN_REQUEST]) + b"".join(parts)

    for message, signer in (
        (b"\x11", sign),
        (bytes([SIGN_REQUEST]), sign),
        (request(b"other"), sign),
        (request(b"key"), refuse),
    ):
        assert answer(message, b"key", signer) == bytes([FAILURE])
