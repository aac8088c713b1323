# SPDX-License-Identifier: Apache-2.0
"""`volar vms ssh`, `exec` and `cp` are the real OpenSSH clients over the API.

The client talks SSH end to end with kestrel in the guest; its bytes travel in a WebSocket that `volar vms ssh-proxy`
(the ProxyCommand) opens. The client's key is this user's own, made once; the daemon lets it in for a minute, which is
enough to log in, and tells the guest's host key, which is pinned for the call.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from volant.contract.paths import find_state_dir
from volant.process import require_tool, run_in_terminal, run_tool
from volant.volar.client import Client, quoted

if TYPE_CHECKING:
    from volant.contract.api_types import SshSession

LOGIN_SECONDS = 60


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


def authorize(client: Client, vm: str) -> str:
    """Let this user's key in for a moment; returns the public key of the guest's SSH server."""
    public_key = find_client_key().with_suffix(".pub").read_text().strip()
    session: SshSession = client.post(
        f"/vms/{quoted(vm)}/ssh", {"public_key": public_key, "ttl_seconds": LOGIN_SECONDS}
    )
    return session["host_key"]


@contextmanager
def open_session(client: Client, vm: str) -> Iterator[list[str]]:
    """Options that make ssh, scp, sftp or rsync reach this VM; valid inside the context."""
    host_key = authorize(client, vm)
    with tempfile.NamedTemporaryFile("w", prefix="volar-known-hosts-") as known_hosts:
        known_hosts.write(f"{vm} {host_key}\n")
        known_hosts.flush()
        # -P: modules in the folder in which somebody happens to be are none of ours.
        proxy = [sys.executable, "-P", "-m", "volant.volar.ssh_proxy", client.address, vm]
        yield [
            "-o", f"ProxyCommand={shlex.join(proxy).replace('%', '%%')}",
            "-o", f"UserKnownHostsFile={known_hosts.name}",
            "-o", "GlobalKnownHostsFile=none",
            "-o", "StrictHostKeyChecking=yes",
            "-o", f"HostKeyAlias={vm}",
            "-o", f"IdentityFile={find_client_key()}",
            "-o", "IdentitiesOnly=yes",
            "-o", "LogLevel=ERROR",
            "-F", "none",
        ]  # fmt: skip


def run_client(arguments: Sequence[str], token: str | None) -> int:
    """Run an OpenSSH client on this terminal and return its exit status."""
    return run_in_terminal(arguments, env={"VOLANT_TOKEN": token} if token else None)
