# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.errors import NotFound
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.placed_files import FIRST_PORT, FileRequest, attach_files
from volant.volantd.vms.record import AttachedSecret


class Secrets:
    def get(self, name: str) -> Any:
        if name != "key":
            raise NotFound(f"cannot find secret {name}")
        return SimpleNamespace(name=name)


DOMAIN = cast("Domain", SimpleNamespace(secrets=Secrets()))


def test_a_secret_of_a_file_has_a_port_of_its_own_that_only_root_may_ask() -> None:
    files, secrets = attach_files(
        DOMAIN,
        [
            FileRequest(path="/etc/app", content_base64="aGk=", mode=0o600, uid=5, gid=6),
            FileRequest(path="/run/secrets/key", secret="key"),
            FileRequest(path="/other", secret="key"),
        ],
        [AttachedSecret(name="usual")],
    )
    assert [(file.path, file.content_base64, file.secret_port) for file in files] == [
        ("/etc/app", "aGk=", None),
        ("/run/secrets/key", "", FIRST_PORT + 1),
        ("/other", "", FIRST_PORT + 2),
    ]
    assert (files[0].mode, files[0].uid, files[0].gid) == (0o600, 5, 6)
    assert secrets == [
        AttachedSecret(name="usual"),
        AttachedSecret(name="key", port=FIRST_PORT + 1, uid=0),
        AttachedSecret(name="key", port=FIRST_PORT + 2, uid=0),
    ]


def test_a_secret_that_is_not_there_is_told_before_the_vm_is_made() -> None:
    with pytest.raises(NotFound, match="gone"):
        attach_files(DOMAIN, [FileRequest(path="/x", secret="gone")], [])
