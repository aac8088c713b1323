# SPDX-License-Identifier: Apache-2.0
"""`volar vms ssh`, `exec` and `cp` are the real OpenSSH clients over the API.

The client talks SSH end to end with kestrel in the guest; its bytes travel in a WebSocket that `volar vms ssh-proxy`
(the ProxyCommand) opens. The client's key is this user's own, made once; the daemon lets it in for a minute, which is
enough to log in, and tells the guest's host key, which is pinned for the call.
"""

from __future__ import annotations

import base64
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from volant.contract.paths import find_state_dir
from volant.errors import Unreachable
from volant.process import require_tool, run_in_terminal, run_tool
from volant.progress import make_monitor
from volant.volar.client import Client, quoted
from volant.volar.ssh_agent import Sign, serve_agent

if TYPE_CHECKING:
    from volant.contract.api_types import Signature, SshSession

LOGIN_SECONDS = 60
SSHD_SECONDS = 300.0
POLL_SECONDS = 1.0


def find_client_key() -> Path:
    """This user's private key for guests; made when it is missing."""
    key = find_state_dir() / "ssh" / "id_ed25519"
    if not key.is_file():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        keygen = require_tool("ssh-keygen", package="openssh-client")
        with tempfile.TemporaryDirectory(dir=key.parent) as draft:
            made = Path(draft) / key.name
            run_tool(
                [keygen, "-q", "-t", "ed25519", "-N", "", "-C", "volar", "-f", str(made)],
                what="make an SSH key",
            )
            os.replace(made.with_suffix(".pub"), key.with_suffix(".pub"))
            os.replace(made, key)
    return key


def authorize(client: Client, vm: str) -> SshSession:
    """Let this user's key in for a moment; returns the guest's host key, and which other key logs in."""
    public_key = find_client_key().with_suffix(".pub").read_text().strip()
    session: SshSession = client.post(
        f"/vms/{quoted(vm)}/ssh", {"public_key": public_key, "ttl_seconds": LOGIN_SECONDS}
    )
    return session


def wait_for_sshd(client: Client, vm: str, timeout_seconds: float = SSHD_SECONDS) -> SshSession:
    """As `authorize`, for a VM that boots its own system: once its own SSH server is up, which may take minutes."""
    deadline = time.monotonic() + timeout_seconds
    with suppress(Unreachable):
        return authorize(client, vm)
    with make_monitor() as monitor:
        monitor.step(f"waiting for the SSH server of {vm}")
        while True:
            time.sleep(POLL_SECONDS)
            try:
                return authorize(client, vm)
            except Unreachable:
                status = client.get_vm(vm)["status"]
                if status not in ("starting", "running") or time.monotonic() >= deadline:
                    raise


def make_signer(client: Client, vm: str) -> Sign:
    """What the daemon signs with the key that this VM's own SSH server was given."""

    def sign(data: bytes) -> bytes:
        request = {"data_base64": base64.b64encode(data).decode()}
        reply: Signature = client.post(f"/vms/{quoted(vm)}/ssh/signature", request)
        return base64.b64decode(reply["signature_base64"])

    return sign


@contextmanager
def open_session(client: Client, vm: str, *, own_system: bool = False) -> Iterator[list[str]]:
    """Options that make ssh, scp, sftp or rsync reach this VM; valid inside the context."""
    session = wait_for_sshd(client, vm) if own_system else authorize(client, vm)
    with tempfile.TemporaryDirectory(prefix="volar-ssh-") as folder, ExitStack() as stack:
        known_hosts = Path(folder) / "known_hosts"
        known_hosts.write_text(f"{vm} {session['host_key']}\n")
        key, agent = find_client_key(), "none"
        if session.get("identity"):
            key, agent = Path(folder) / "identity.pub", str(Path(folder) / "agent.sock")
            key.write_text(f"{session['identity']}\n")
            stack.enter_context(serve_agent(Path(agent), session["identity"], make_signer(client, vm)))
        # -P: modules in the folder in which somebody happens to be are none of ours.
        proxy = [sys.executable, "-P", "-m", "volant.volar.ssh_proxy", client.address, vm]
        yield [
            "-o", f"ProxyCommand={shlex.join(proxy).replace('%', '%%')}",
            "-o", f"UserKnownHostsFile={known_hosts}",
            "-o", "GlobalKnownHostsFile=none",
            "-o", "StrictHostKeyChecking=yes",
            "-o", f"HostKeyAlias={vm}",
            "-o", f"IdentityFile={key}",
            "-o", f"IdentityAgent={agent}",
            "-o", "IdentitiesOnly=yes",
            "-o", "LogLevel=ERROR",
            "-F", "none",
        ]  # fmt: skip


def run_client(arguments: Sequence[str], token: str | None) -> int:
    """Run an OpenSSH client on this terminal and return its exit status."""
    return run_in_terminal(arguments, env={"VOLANT_TOKEN": token} if token else None)
