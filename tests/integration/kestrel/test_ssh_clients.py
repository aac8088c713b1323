# SPDX-License-Identifier: Apache-2.0
"""The clients that people have, against the agent's SSH server: OpenSSH's ssh, scp and sftp, and rsync."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.kestrel.conftest import SshServer

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become others")
pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")
Start = Callable[..., SshServer]
ME = str(os.getuid())
LARGE = bytes(range(256)) * (16 << 10)


def test_exec_keeps_streams_and_exit_status_apart(start_server: Start) -> None:
    server = start_server()
    command = "cat; echo err >&2; echo $FROM_VM $PATH; exit 7"
    no_home = "SetEnv=HOME=/nonexistent"  # bash would read the ~/.bashrc of whoever runs this
    done = server.run("ssh", "-o", no_home, f"{ME}@guest", command, stdin=b"in\n")
    assert (done.returncode, done.stderr) == (7, b"err\n")
    assert done.stdout == b"in\nyes /run/kestrel/bin:/usr/bin:/bin\n"
    # OpenSSH reports a signal as 255.
    assert server.run("ssh", f"{ME}@guest", "kill -TERM $$").returncode == 255
    assert server.run("ssh", f"{ME}@guest", "cat", stdin=LARGE).stdout == LARGE


def test_the_network_form_answers_too(start_server: Start) -> None:
    server = start_server(network="tcp")
    done = server.run("ssh", f"{ME}@guest", 'test -n "$SSH_CONNECTION" && echo connected')
    assert (done.returncode, done.stdout) == (0, b"connected\n")


def test_a_terminal(start_server: Start) -> None:
    done = start_server().run("ssh", "-tt", f"{ME}@guest", stdin=b"tty\nexit 5\n")
    assert done.returncode == 5
    assert b"/dev/pts/" in done.stdout


def test_strangers_are_refused(start_server: Start) -> None:
    server = start_server()
    other = server.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    done = server.run("ssh", "-o", f"IdentityFile={other}", f"{ME}@guest", "true")
    assert done.returncode == 0, "the right key among others is found"
    server.config.write_text(server.config.read_text().replace(str(server.client_key), str(other)))
    done = server.run("ssh", f"{ME}@guest", "true")
    assert done.returncode == 255 and b"Permission denied (publickey)" in done.stderr


@pytest.mark.parametrize("user", [ME, pytest.param("nobody", marks=needs_root)])
def test_scp_both_ways(start_server: Start, user: str) -> None:
    server = start_server()
    place = server.folder / "place"
    place.mkdir()
    place.chmod(0o777)
    local = server.folder / "local"
    local.write_bytes(LARGE)
    local.chmod(0o751)
    assert server.run("scp", "-p", str(local), f"{user}@guest:{place}/copy").returncode == 0
    assert (place / "copy").read_bytes() == LARGE
    assert (place / "copy").stat().st_mode & 0o777 == 0o751
    assert server.run("scp", f"{user}@guest:{place}/copy", str(server.folder / "back")).returncode == 0
    assert (server.folder / "back").read_bytes() == LARGE
    if user == "nobody":
        assert (place / "copy").stat().st_uid != 0
        assert server.run("scp", str(local), f"{user}@guest:/root/forbidden").returncode != 0


def test_sftp(start_server: Start) -> None:
    server = start_server()
    place = server.folder / "place"
    local = server.folder / "local"
    local.write_bytes(LARGE)
    batch = f"mkdir {place}\nput {local} {place}/a\nrename {place}/a {place}/b\nln -s b {place}/c\nls -l {place}\n"
    done = server.run("sftp", "-b", "-", f"{ME}@guest", stdin=batch.encode())
    assert done.returncode == 0, done.stderr
    assert (place / "c").read_bytes() == LARGE


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
def test_rsync(start_server: Start) -> None:
    server = start_server()
    source, target = server.folder / "source", server.folder / "target"
    (source / "deep" / "er").mkdir(parents=True)
    for number in range(50):
        (source / "deep" / "er" / f"file{number}").write_bytes(LARGE[: number * 1000])
    (source / "link").symlink_to("deep")
    shell = f"ssh -F {server.config}"
    for _ in range(2):
        subprocess.run(
            ["rsync", "-a", "--delete", "-e", shell, f"{source}/", f"{ME}@guest:{target}/"],
            check=True, timeout=60,
        )  # fmt: skip
    assert subprocess.run(["diff", "-r", str(source), str(target)]).returncode == 0


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_forwarding_of_sockets_and_ports(start_server: Start) -> None:
    server = start_server()
    behind, local, remote = (str(server.folder / name) for name in ("behind", "local", "remote"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(behind)
    listener.listen()
    command = [
        "ssh", "-F", str(server.config), "-N", "-o", "ExitOnForwardFailure=yes",
        "-L", f"{local}:{behind}", "-R", f"{remote}:{behind}", f"{ME}@guest",
    ]  # fmt: skip
    client = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        for path in (local, remote):
            wait_for(Path(path))
            with socket.socket(socket.AF_UNIX) as near:
                near.connect(path)
                far, _ = listener.accept()
                near.sendall(b"question")
                assert far.recv(100) == b"question"
                far.sendall(b"answer")
                far.close()
                assert near.recv(100) == b"answer"
                assert near.recv(100) == b""
    finally:
        client.terminate()
        client.wait(10)
        listener.close()


def test_the_clients_key_agent_is_reached(start_server: Start) -> None:
    server = start_server()
    agent_socket = str(server.folder / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", agent_socket], stdout=subprocess.DEVNULL)
    try:
        wait_for(Path(agent_socket))
        environment = {**os.environ, "SSH_AUTH_SOCK": agent_socket}
        subprocess.run(["ssh-add", "-q", str(server.client_key)], env=environment, check=True)
        done = subprocess.run(
            ["ssh", "-F", str(server.config), "-o", "IdentityAgent=SSH_AUTH_SOCK", "-A", f"{ME}@guest", "ssh-add -L"],
            env=environment, capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        key = server.client_key.with_suffix(".pub").read_text().split()[1]
        assert key in done.stdout.decode(), done
    finally:
        agent.terminate()
        agent.wait(10)
    assert not list(server.folder.glob("agent-*")), "the socket in the guest outlived its session"
