# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from support.breaking_server import serve
from volant.errors import InvalidInput, NotFound, Unreachable
from volant.volantd.plugins.sources import Download, open_path, open_url


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


CONTENT = bytes(range(256)) * 300


def fetch(url: str) -> bytes:
    with Download(url) as download:
        return b"".join(iter(lambda: download.read(5000), b""))


def test_a_download_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.volantd.plugins.sources.PAUSE_SECONDS", 0)
    with serve(CONTENT, breaks_after=20_000) as url:
        assert fetch(url) == CONTENT
    with serve(CONTENT) as url:
        assert fetch(url) == CONTENT


def test_a_download_that_cannot_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.volantd.plugins.sources.PAUSE_SECONDS", 0)
    for breaks_after, knows_ranges in ((20_000, False), (2_000, True)):
        with (
            serve(CONTENT, breaks_after=breaks_after, knows_ranges=knows_ranges) as url,
            pytest.raises(Unreachable, match="ended too early, after"),
        ):
            fetch(url)
