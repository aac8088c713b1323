# SPDX-License-Identifier: Apache-2.0
"""volar dashboard prints the link, and hands it to a browser by a file that only this user can read."""

from __future__ import annotations

import stat
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from volant.volar.cli import run
from volant.volar.client import Client

LINK = "http://volant-1.localhost:7000/#code=s3cret"


class Daemon(Client):
    def __init__(self) -> None:
        super().__init__("/nowhere")

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        assert path == "/dashboard/links"
        return {"url": LINK, "expires_seconds": 60}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    monkeypatch.setenv("DISPLAY", ":9")
    found: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: found.append(url) or True)
    return found


def test_the_code_is_on_no_command_line(opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dashboard"], Daemon()) == 0
    (url,) = opened
    assert "s3cret" not in url
    path = Path(urlsplit(url).path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"url={LINK}" in path.read_text()
    assert capsys.readouterr().out == f"{LINK}\n"


def test_a_second_time_takes_the_place_of_the_first(opened: list[str]) -> None:
    assert run(["dashboard"], Daemon()) == 0
    assert run(["dashboard"], Daemon()) == 0
    assert len(set(opened)) == 1


@pytest.mark.parametrize("arguments", [["dashboard", "--no-open"], ["dashboard"]])
def test_without_a_screen_or_a_wish_no_browser_starts(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    if len(arguments) == 1:
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run(arguments, Daemon()) == 0
    assert opened == []
