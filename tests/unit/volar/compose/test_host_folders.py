# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.volar.client import Client
from volant.volar.compose.host_folders import check_folders, make_folders
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Stack
from volant.volar.compose.requests import ServiceRequest, make_requests


def make(folder: Path, **volume: Any) -> list[ServiceRequest]:
    written = {"type": "bind", "source": str(folder / "src"), "target": "/app", **volume}
    stack = Stack.model_validate({"services": {"a": {"image": "i", "volumes": [written]}}})
    return [*make_requests(Project("p", folder, stack, {}, ()), ["a"]).values()]


def test_a_missing_folder_is_made_unless_told_otherwise(tmp_path: Path) -> None:
    assert make_folders(make(tmp_path, bind={"create_host_path": False})) == []
    assert not (tmp_path / "src").exists()
    assert make_folders(make(tmp_path)) == [str(tmp_path / "src")]
    assert (tmp_path / "src").is_dir()
    assert make_folders(make(tmp_path)) == []


@pytest.mark.parametrize(
    ("address", "token", "is_own"),
    [
        ("/run/volantd.sock", None, True),
        ("/run/volantd.sock", "a token", False),
        ("http://10.0.0.1:7777", None, False),
    ],
)
def test_only_this_users_own_daemon_is_asked(
    tmp_path: Path, address: str, token: str | None, is_own: bool
) -> None:
    client, requests = Client(address, token), make(tmp_path, read_only=True)
    assert requests[0].body["mounts"] == [
        {"source": str(tmp_path / "src"), "target": "/app", "read_only": True}
    ]
    if is_own:
        check_folders(client, requests)
        return
    with pytest.raises(InvalidInput, match=r"services\.a folders of this host"):
        check_folders(client, requests)
