# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.errors import NotFound
from volant.volar.archives import open_upload, write_reply


def test_a_file_is_this_users_own_and_there_whole_or_not_at_all(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise ConnectionResetError

    target = tmp_path / "s.tar"
    with pytest.raises(ConnectionResetError):
        write_reply(Broken(), str(target))
    assert list(tmp_path.iterdir()) == []
    write_reply(io.BytesIO(b"archive"), str(target))
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"archive", 0o600)
    with open_upload(str(target)) as pieces:
        assert list(pieces) == [b"archive"]
    with pytest.raises(NotFound, match="cannot read"), open_upload(str(tmp_path / "none")):
        pass


def test_a_snapshot_travels_as_a_file(volar: Volar, daemon: InProcessDaemon, tmp_path: Path) -> None:
    daemon.install("travels")
    assert volar("create", "one", "-p", "travels").exit_code == 0
    assert volar("snapshots", "create", "one", "then").exit_code == 0
    target = str(tmp_path / "then.tar")
    assert volar("snapshots", "export", "then", target, "--with-memory").out.endswith("with its memory\n")
    assert volar("snapshots", "import", target).exit_code == 5
    assert (
        volar("snapshots", "import", target, "--name", "again").out
        == "again has been taken in (disk and memory)\n"
    )
    assert volar("snapshots", "export", "then", target).out == f"then has been written to {target}\n"
    assert volar("snapshots", "import", target, "--name", "small").out == "small has been taken in (disk)\n"
    assert volar("snapshots", "rm", "then", "again", "small").exit_code == 0


@pytest.mark.parametrize("command", [("system", "restore"), ("volumes", "restore"), ("snapshots", "import")])
def test_a_folder_is_no_archive(command: tuple[str, ...], volar: Volar, tmp_path: Path) -> None:
    done = volar(*command, str(tmp_path))
    assert (done.exit_code, "it is a folder" in done.err) == (4, True), done.err
