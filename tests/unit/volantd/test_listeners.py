# SPDX-License-Identifier: Apache-2.0
"""Where volantd is asked: the token of its TCP port, and its socket's rights."""

from __future__ import annotations

import contextlib
from pathlib import Path

from volant.volantd.listeners import open_unix_socket, read_token
from volant.volantd.settings import Settings


def test_the_token_is_made_once_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = read_token(path)
    assert len(token) >= 32
    assert read_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_empty_token_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("\n")
    token = read_token(path)
    assert token
    assert read_token(path) == token


def test_the_socket_is_its_owners_and_goes_unless_another_has_taken_its_place(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    settings.socket.write_text("what a killed daemon left")
    with contextlib.ExitStack() as stack:
        open_unix_socket(settings, stack)
        assert settings.socket.is_socket()
        assert settings.socket.stat().st_mode & 0o777 == 0o600
    assert not settings.socket.exists()
    with contextlib.ExitStack() as stack:
        open_unix_socket(settings, stack)
        # The file keeps its inode while somebody has a name of it.
        settings.socket.rename(tmp_path / "old")
        settings.socket.write_text("another's")
    assert settings.socket.exists()
