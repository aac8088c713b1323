# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from volant.errors import InvalidInput, NotFound, Unreachable
from volant.volantd.plugins.sources import open_path, open_url


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x")
    with contextlib.closing(open_path(str(tmp_path / "p"))) as stream:
        assert stream.read() == b"x"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", "a\0b"):
        with pytest.raises(NotFound):
            open_path(str(path))


@pytest.mark.parametrize(
    "url",
    [
        "", "file:///etc/passwd", "ftp://host/x", "http://", "http:///x", "http://[::1", "http://[x]/", "http://h:x/",
        "http://h:99999/", "http://h:0/", "http://h/a b", "http://h/é", "http://\ud800/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_invalid_input(url: str) -> None:
    with pytest.raises(InvalidInput, match="cannot fetch"):
        open_url(url)


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        open_url("http://127.0.0.1:1/plugin.tar.gz")
