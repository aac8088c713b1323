# SPDX-License-Identifier: Apache-2.0
"""The two key pairs of a VM's control stream: volantd's own and the agent's, both made by volantd."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)


def make_private_key() -> str:
    """A new ed25519 key in OpenSSH's form."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        .decode()
    )


def read_public_key(private_key: str) -> str:
    """The public half as one line: "ssh-ed25519 AAAA…"."""
    key = load_ssh_private_key(private_key.encode(), None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
