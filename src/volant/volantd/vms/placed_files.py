# SPDX-License-Identifier: Apache-2.0
"""Files and folders that are a VM's alone: configurations travel with its settings, secrets by a vsock port that only
root may ask.

So no secret is written to this host's disk in clear, and what a file gets is the secret's value at the VM's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from volant.volantd.vms.domain import Domain
from volant.volantd.vms.record import AttachedSecret, StoredFile

# Above what people choose, and below what a sockaddr_vm takes.
FIRST_PORT = 0x4000_0000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    path: str
    kind: Literal["file", "folder", "memory"] = "file"
    content_base64: str = ""
    secret: str | None = None
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


def attach_files(
    domain: Domain, files: Sequence[FileRequest], secrets: Sequence[AttachedSecret]
) -> tuple[list[StoredFile], list[AttachedSecret]]:
    """The files as the VM keeps them, and its secrets with those of files. NotFound for a secret that is not there."""
    stored, attached = [], list(secrets)
    for number, file in enumerate(files):
        port = None
        if file.secret is not None:
            port = FIRST_PORT + number
            attached.append(AttachedSecret(name=domain.secrets.get(file.secret).name, port=port, uid=0))
        stored.append(
            StoredFile(
                path=file.path,
                kind=file.kind,
                content_base64=file.content_base64,
                secret_port=port,
                mode=file.mode,
                uid=file.uid,
                gid=file.gid,
            )
        )
    return stored, attached
