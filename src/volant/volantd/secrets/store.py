# SPDX-License-Identifier: Apache-2.0
"""Secrets, encrypted at rest, and what a guest is answered when it asks for its own.

Values are sealed with AES-256-GCM under a key in a file that only the daemon's user can read; the name is bound in
as associated data, so that a row copied under another name does not open.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from volant.contract.guest_config import SECRETS_PORT
from volant.errors import Conflict, InvalidInput, NotFound, VolantError
from volant.volantd.clock import now
from volant.volantd.database import Database
from volant.volantd.usage import Usage, describe_users
from volant.whole_file import write_whole_file

MAXIMUM_BYTES = 1024 * 1024
NAME_PATTERN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
_NONCE_BYTES = 12


class Attachment(Protocol):
    """A secret as a VM has it; `port` None: with others on the usual one."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret without its value, and the VMs that have it."""

    name: str
    size_bytes: int
    updated_at: str
    vms: list[str]


class SecretStore:
    def __init__(self, database: Database, key_file: Path, usage: Usage) -> None:
        self._database = database
        self._usage = usage
        self._cipher = AESGCM(_load_key(key_file))

    def set(self, name: str, value: bytes) -> StoredSecret:
        if not NAME_PATTERN.fullmatch(name):
            raise InvalidInput(
                f"cannot keep secret {name!r}: a name has letters, digits, '.', '_' and '-', and begins with a letter"
            )
        if len(value) > MAXIMUM_BYTES:
            raise InvalidInput(f"cannot keep secret {name}: {len(value)} bytes are more than {MAXIMUM_BYTES}")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, value, name.encode())
        self._database.execute(
            "INSERT INTO secrets VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
            " sealed = excluded.sealed, size_bytes = excluded.size_bytes, updated_at = excluded.updated_at",
            (name, sealed, len(value), now()),
        )
        return self.get(name)

    def get(self, name: str) -> StoredSecret:
        row = self._database.fetch_one(
            "SELECT name, size_bytes, updated_at FROM secrets WHERE name = ?", (name,)
        )
        if row is None:
            raise NotFound(
                f"cannot find secret {name}", resolution=f"store it first: volar secrets set {name} < FILE"
            )
        return StoredSecret(
            name=row["name"],
            size_bytes=row["size_bytes"],
            updated_at=row["updated_at"],
            vms=self._usage.find_vms("secret", name),
        )

    def list_all(self) -> list[StoredSecret]:
        rows = self._database.fetch_all("SELECT name FROM secrets ORDER BY name")
        return [self.get(row["name"]) for row in rows]

    def remove(self, name: str) -> None:
        self.get(name)
        if users := self._usage.find_users("secret", name):
            count, names, commands = describe_users(users)
            raise Conflict(
                f"cannot remove secret {name}: {count} use it",
                details=names,
                resolution=f"delete them first: {commands}",
            )
        self._database.execute("DELETE FROM secrets WHERE name = ?", (name,))

    def reveal(self, name: str) -> bytes:
        row = self._database.fetch_one("SELECT sealed FROM secrets WHERE name = ?", (name,))
        if row is None:
            raise NotFound(f"cannot find secret {name}")
        try:
            return self._cipher.decrypt(
                row["sealed"][:_NONCE_BYTES], row["sealed"][_NONCE_BYTES:], name.encode()
            )
        except InvalidTag:
            raise VolantError(
                f"cannot open secret {name}: the key file is another one than it was sealed with",
                resolution=f"store it again: volar secrets set {name} < FILE",
            ) from None

    def answer(self, attachments: Sequence[Attachment], port: int) -> bytes | None:
        """What a guest with these secrets gets on a port of CID 2, or None: refuse the connection.

        One secret on the port: its very bytes. Several: NAME=value lines quoted for a POSIX shell, with what a
        variable's name cannot hold turned into underscores.
        """
        names = [attached.name for attached in attachments if (attached.port or SECRETS_PORT) == port]
        if not names:
            return None
        if len(names) == 1:
            return self.reveal(names[0])
        lines = []
        for name in names:
            variable = re.sub(r"[^A-Za-z0-9_]", "_", name)
            value = self.reveal(name).decode("utf-8", "surrogateescape").removesuffix("\n")
            lines.append(f"{variable}={shlex.quote(value)}\n")
        return "".join(lines).encode("utf-8", "surrogateescape")


def _load_key(path: Path) -> bytes:
    """The key, made at the first start. Written whole, so that no half key is kept."""
    if not path.exists():
        write_whole_file(path, AESGCM.generate_key(256), mode=0o600)
    key = path.read_bytes()
    if len(key) != 32:
        raise VolantError(
            f"cannot read {path}: it is no key of 32 bytes", resolution="restore it from a backup"
        )
    return key
