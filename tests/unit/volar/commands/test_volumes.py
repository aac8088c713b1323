# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.errors import UsageError
from volant.volar.options import is_folder, parse_mount, parse_volume


def test_from_creation_to_deletion(volar: Volar, daemon: InProcessDaemon, tmp_path: Path) -> None:
    daemon.install("store")
    assert volar("volumes", "create", "data", "--size", "16M").out == "data has been created (16.0 MiB)\n"
    assert volar("volumes", "create", "data").exit_code == 5
    done = volar("vms", "create", "db", "-p", "store", "--volume", "data:/var/lib/db", "-o", "json")
    assert json.loads(done.out)[0]["volumes"] == [
        {"name": "data", "target": "/var/lib/db", "read_only": False}
    ]
    assert "data at /var/lib/db" in volar("vms", "get", "db").out
    assert "data" in volar("volumes", "ls").out
    assert json.loads(volar("volumes", "show", "volume/data", "-o", "json").out)["vms"] == ["db"]
    refused = volar("volumes", "rm", "data")
    assert refused.exit_code == 5
    assert "volar vms delete db" in refused.err
    assert volar("volumes", "resize", "data", "32M").out == "data has 32.0 MiB now\n"
    archive = str(tmp_path / "data.tar")
    assert "backed up" in volar("volumes", "backup", "data", archive).err
    assert volar("volumes", "restore", archive, "again").out == "again has been restored (32.0 MiB)\n"
    assert volar("vms", "delete", "db").exit_code == 0
    assert volar("volumes", "delete", "data", "again").out == "deleted data\ndeleted again\n"
    assert volar("volumes", "show", "data").exit_code == 4


def test_what_is_no_volume_is_told_before_anything_is_asked() -> None:
    assert parse_volume("data:/x:ro") == {"name": "data", "target": "/x", "read_only": True}
    for text in ("data", "data:x", ":/x", "data:/x:rx"):
        with pytest.raises(UsageError, match="cannot attach the volume"):
            parse_volume(text)


def test_paths_are_folders_of_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "src")
    for text in ("./src:/app", ".:/app", "~/x:/x", "/etc:/etc", "..:/x"):
        assert is_folder(text)
    assert not is_folder("data:/x")
    assert parse_mount("./src:/app") == {"source": here, "target": "/app", "read_only": False}
    assert parse_mount("src:/app:ro,z")["read_only"]
    for docker in ("type=bind,source=./src,target=/app,readonly", "type=bind,src=./src,dst=/app,ro"):
        assert parse_mount(docker) == {"source": here, "target": "/app", "read_only": True}
    for text in ("src", ":/app", "src:app", "src:/app:wo", "type=tmpfs,target=/x", "type=bind,source=x"):
        with pytest.raises(UsageError, match="cannot mount"):
            parse_mount(text)
