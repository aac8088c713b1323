# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
from pathlib import Path

from volant.volar.compose.host_folders import make_folders
from volant.volar.compose.host_paths import find_obstacle
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Stack
from volant.volar.compose.requests import make_requests


def test_sockets_and_devices_are_left_out_and_nothing_is_made_in_their_place(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker"))
        os.mkfifo(tmp_path / "pipe")
        volumes = [f"{tmp_path}/{name}:/x/{name}" for name in ("docker", "gone.sock", "pipe", "folder")]
        stack = Stack.model_validate({"services": {"a": {"image": "part", "volumes": volumes}}})
        requests = make_requests(Project("p", tmp_path, stack, {}, ()), ["a"])
    assert [mount["target"] for mount in requests["a"].body["mounts"]] == ["/x/folder"]
    assert [note.partition(": left out: ")[0] for note in requests["a"].notes] == [
        f"services.a.volumes[{number}]" for number in range(3)
    ]
    assert make_folders(requests.values()) == [str(tmp_path / "folder")]
    assert not (tmp_path / "gone.sock").exists()
    assert find_obstacle(tmp_path) == ""
