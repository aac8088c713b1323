# SPDX-License-Identifier: Apache-2.0
"""The agent's SSH server outside a guest, for the tests that bring real clients."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

KESTREL = Path(__file__).resolve().parents[3] / "kestrel"


@dataclass(frozen=True)
class SshServer:
    """A running server. `config` is an OpenSSH client configuration that reaches it as any host."""

    folder: Path
    address: str
    client_key: Path
    host_key: str
    config: Path

    @property
    def socket(self) -> Path:
        return self.folder / "ssh.sock"

    def run(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a client; "-F config" is put after its name."""
        arguments = [command[0], "-F", str(self.config), *command[1:]]
        return subprocess.run(arguments, input=stdin, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def server_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs the Go toolchain")
    program = tmp_path_factory.mktemp("build") / "testserver"
    subprocess.run(
        [go, "build", "-o", str(program), "./internal/sshd/testserver"], cwd=KESTREL, check=True, timeout=800
    )
    return program


@pytest.fixture
def start_server(server_program: Path) -> Iterator[Callable[..., SshServer]]:
    started: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp(prefix="volant-ssh-"))  # short: a socket's path holds 107 bytes
    folder.chmod(0o755)  # for tests that log in as somebody else

    def start(*options: str, network: str = "unix") -> SshServer:
        for name in ("host", "client"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
            )
        address = str(folder / "ssh.sock") if network == "unix" else "127.0.0.1:0"
        process = subprocess.Popen(
            [
                server_program, "-network", network, "-address", address, "-host-key", folder / "host",
                "-authorized", folder / "client.pub", "-runtime-folder", folder,
                "-environment", "PATH=/usr/bin:/bin,FROM_VM=yes", *options,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        address = process.stdout.readline().decode().removeprefix("ready ").strip()
        host_key = (folder / "host.pub").read_text().strip()
        config = folder / "config"
        reach = f"ProxyCommand socat - UNIX-CONNECT:{address}"
        if network == "tcp":
            reach = f"HostName 127.0.0.1\n Port {address.rpartition(':')[2]}\n HostKeyAlias guest"
        (folder / "known_hosts").write_text(f"guest {host_key}\n")
        config.write_text(
            f"Host *\n IdentityFile {folder / 'client'}\n IdentitiesOnly yes\n IdentityAgent none\n"
            f" UserKnownHostsFile {folder / 'known_hosts'}\n LogLevel ERROR\n StrictHostKeyChecking yes\n {reach}\n"
        )
        return SshServer(folder, address, folder / "client", host_key, config)

    yield start
    for process in started:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
    shutil.rmtree(folder)
