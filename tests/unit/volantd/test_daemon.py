# SPDX-License-Identifier: Apache-2.0
"""What the daemon does before it serves."""

from __future__ import annotations

from pathlib import Path

from volant.volantd.daemon import read_token


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
