# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from unit.volar.conftest import Volar


@pytest.mark.parametrize(
    "command", [("system", "backup"), ("volumes", "backup", "v"), ("snapshots", "export", "s")]
)
def test_only_a_file_is_ever_replaced(command: tuple[str, ...], volar: Volar, tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for place, said in ((fifo, "it is a FIFO"), (link, "it is a FIFO"), (tmp_path, "it is a folder"),
                        (tmp_path / "none" / "file", "no such folder"), ("", "it names no file")):  # fmt: skip
        done = volar(*command, str(place))
        assert (done.exit_code, said in done.err) == (2, True), done.err
    assert sorted(tmp_path.iterdir()) == [fifo, link]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_link_is_followed(volar: Volar, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    assert volar("system", "backup", str(tmp_path / "link")).exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o600
