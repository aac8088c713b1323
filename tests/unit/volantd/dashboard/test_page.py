# SPDX-License-Identifier: Apache-2.0
"""The page's listener is opened by the first link; only built files are found."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from volant.errors import NotFound
from volant.volantd.dashboard.page import Page


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    (folder / "assets" / "deep").mkdir(parents=True)
    for name in ("index.html", "assets/main.js", "assets/.hidden", "assets/deep/x.js"):
        (folder / name).write_text(name)
    (tmp_path / "secret").write_text("not for pages")
    return folder


def test_links_open_one_listener_on_loopback(built: Path) -> None:
    page, opened = Page(built), list[socket.socket]()
    page.serve = opened.append
    links = [page.make_link("uid 1"), page.make_link("uid 1")]
    (listener,) = opened
    with listener:
        assert listener.getsockname() == ("127.0.0.1", page.port)
    for link in links:
        place, _, code = link.partition("/#code=")
        assert place == page.origin
        assert page.sessions.redeem(code)


def test_each_daemon_has_a_name_of_its_own(built: Path) -> None:
    names = {Page(built).host_name for _ in range(3)}
    assert len(names) == 3
    assert all(name.endswith(".localhost") for name in names)


def test_an_installation_without_the_page_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="built without"):
        Page(tmp_path).make_link("uid 1")


@pytest.mark.parametrize(("path", "file"), [("/", "index.html"), ("/assets/main.js", "assets/main.js")])
def test_built_files_are_found(built: Path, path: str, file: str) -> None:
    assert Page(built).find_file(path) == built / file


@pytest.mark.parametrize(
    "path",
    ["", "/assets", "/assets/", "/assets/../../secret", "/assets/..", "/../secret", "/assets/.hidden", "/..",
     "/assets/deep/x.js", "//etc/passwd", "/etc/passwd", "/assets\x00", "/assets/none.js"],
)  # fmt: skip
def test_and_nothing_else(built: Path, path: str) -> None:
    assert Page(built).find_file(path) is None
