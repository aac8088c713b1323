# SPDX-License-Identifier: Apache-2.0
"""A guest without a machine: a process that speaks the agent's real protocol on the control socket.

    python fake_guest.py GUEST_JSON CONTROL_SOCKET CONSOLE_LOG

What it does is chosen by the workload's variable FAKE: "" serves, "unbootable" ends with 0 before the agent answers,
"broken" runs with a failed workload, "silent" never answers, "busy" never ends when it is told to, "flood" tells of
its health and its logs without end, "lies" answers every question with nonsense.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import asyncssh

from volant.contract.agent import GREETING_PREFIX

FLOOD_LINE_BYTES, FLOOD_CHUNK_LINES = 100, 500
CHOSEN = json.loads(Path(sys.argv[1]).read_text()) if __name__ == "__main__" else {}


def serve_files(channel: asyncssh.SSHServerChannel) -> asyncssh.SFTPServer:
    """SFTP over a folder of its own, beside its settings."""
    root = Path(sys.argv[1]).parent / "files-of-the-guest"
    root.mkdir(exist_ok=True)
    return asyncssh.SFTPServer(channel, chroot=os.fsencode(root))


def make_state(choice: str) -> dict[str, Any]:
    if choice == "broken":
        return {
            "phase": "failed",
            "reason": "config line 3",
            "health": "unhealthy",
            "health_reason": "config line 3",
        }
    if choice == "result":
        return {"phase": "stopping", "health": "unknown", "result": 3}
    return {
        "phase": "running",
        "health": "healthy",
        "processes": [{"name": "web", "state": "running", "pid": 7}],
        "checks": [{"name": "web", "kind": "tcp", "state": "healthy"}],
        "kernel": "6.1.0-fake",
    }


def write_console(line: str) -> None:
    with open(sys.argv[3], "a") as console:
        console.write(f"[kestrel] {line}\n")


class Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        allowed = [asyncssh.import_public_key(line) for line in CHOSEN["control"]["authorized_keys"]]
        return key in allowed


async def serve_shell(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """A terminal that shows what is typed. Its one command, `flood BYTES`, writes numbered lines."""
    line = b""
    process.stdout.write(b"$ ")
    while typed := await process.stdin.read(1):
        process.stdout.write(b"\r\n" if typed == b"\r" else typed)
        if typed != b"\r":
            line += typed
            continue
        word, _, count = line.partition(b" ")
        if word == b"flood":
            for begin in range(0, int(count), FLOOD_CHUNK_LINES * FLOOD_LINE_BYTES):
                if process.stdout.is_closing():
                    return
                first = begin // FLOOD_LINE_BYTES
                process.stdout.write(
                    b"".join(b"%098d\r\n" % number for number in range(first, first + FLOOD_CHUNK_LINES))
                )
                await process.stdout.drain()
            process.stdout.write(b"all told\r\n")
        line = b""
        process.stdout.write(b"$ ")
    process.exit(0)


LIES = [
    {"phase": "unheard-of"},
    [],
    {"phase": "running", "health": "healthy" * 100_000},
    {"phase": "running", "processes": [{"name": "x" * 10_000, "state": "running"}] * 1000, "result": -1},
]


async def flood(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """As fast as the stream takes it: a health that changes, processes that come and go, lines of logs."""
    number = 0
    while True:
        number += 1
        state = make_state("") | {"health": ("healthy", "unhealthy")[number % 2], "health_reason": "x" * 1000}
        lines = [
            {"cursor": str(number), "time": "2026-01-01T00:00:00.000Z", "process": "web", "stream": "stdout"}
        ]
        for message in (
            {"method": "state", "params": {"state": state}},
            {
                "method": "log",
                "params": {"id": 0, "entries": [{**line, "line": "y" * 1000} for line in lines]},
            },
        ):
            process.stdout.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await process.stdout.drain()


async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
    if process.command == "flood":
        with contextlib.suppress(OSError, asyncssh.Error):  # else asyncssh ends the whole connection
            while not process.stdout.is_closing():
                process.stdout.write(b"x" * (1 << 16))
                await process.stdout.drain()
        return
    if process.command == "terminal":
        process.stdout.write(f"{process.term_type} {process.term_size[:2]}".encode())
        try:
            await process.stdin.read()
        except asyncssh.TerminalSizeChanged as change:
            process.stdout.write(f" {change.width} {change.height}".encode())
        process.exit(0)
        return
    if process.term_type and process.command is None:
        with contextlib.suppress(OSError, asyncssh.Error):
            await serve_shell(process)
        return
    if process.subsystem != "control":
        stdin = await process.stdin.read()
        process.stderr.write(b"warned")
        process.stdout.write(f"{process.command}|".encode() + stdin)
        process.exit(3)
        return

    def send(message: dict[str, Any]) -> None:
        process.stdout.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    choice = CHOSEN.get("workload", {}).get("env", {}).get("FAKE", "")
    flooding: list[asyncio.Task[None]] = []
    async for line in process.stdin:
        call = json.loads(line)
        result: Any = {}
        match call["method"]:
            case "hello":
                result = {
                    "version": 1,
                    "agent_version": "9.9",
                    "features": ["logs", "snapshot", "wake"],
                    "boot_id": str(os.getpid()),
                }
            case "state.get":
                result = make_state(choice)
            case "ssh.authorize":
                result = {"host_key": "ssh-ed25519 AAAA"}
            case "stats.get":
                names = (
                    "uptime_seconds cpu_microseconds memory_total_bytes memory_used_bytes disk_total_bytes"
                    " disk_used_bytes network_received_bytes network_sent_bytes"
                )
                result = dict.fromkeys(names.split(), 1)
            case "logs.read":
                if not call["params"]["cursor"]:
                    entry = {
                        "cursor": "1",
                        "time": "2026-01-01T00:00:00.000Z",
                        "process": "web",
                        "stream": "stdout",
                    }
                    send(
                        {
                            "method": "log",
                            "params": {"id": call["id"], "entries": [{**entry, "line": "hello"}]},
                        }
                    )
                continue
            case "power.stop":
                send({"id": call["id"], "result": {}})
                if CHOSEN.get("workload", {}).get("env", {}).get("FAKE") == "busy":
                    continue
                write_console("power off")
                await asyncio.sleep(0.05)
                os._exit(0)
        if choice == "lies" and call["method"] != "hello":
            result = LIES[call["id"] % len(LIES)]
        send({"id": call["id"], "result": result})
        if choice == "flood" and call["method"] == "state.get":
            flooding.append(asyncio.create_task(flood(process)))
        if choice == "result" and call["method"] == "state.get":
            asyncio.get_running_loop().call_later(0.2, os._exit, 0)


async def main() -> None:
    choice = CHOSEN.get("workload", {}).get("env", {}).get("FAKE", "")
    write_console("a guest without a machine")
    if choice == "unbootable":
        write_console("cannot boot: no root disk")
        return
    if choice == "silent":
        await asyncio.sleep(3600)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2])
    listener.listen()
    key = asyncssh.import_private_key(CHOSEN["control"]["host_key"])
    connections = []
    while True:
        host, _ = await asyncio.to_thread(listener.accept)
        try:
            identification = await asyncio.to_thread(host.recv, 255, socket.MSG_PEEK)
            host.sendall(b"left over from an earlier host\n" + GREETING_PREFIX.encode() + identification)
            connections.append(
                await asyncssh.run_server(
                    host,
                    server_factory=Server,
                    server_host_keys=[key],
                    process_factory=serve,
                    sftp_factory=serve_files,
                    encoding=None,
                )
            )
        except (OSError, asyncssh.Error):
            continue  # the daemon was killed in the middle of it


if __name__ == "__main__":
    asyncio.run(main())
