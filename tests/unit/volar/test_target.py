# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.contract.paths import find_contexts_file
from volant.errors import NotFound
from volant.volar.contexts import Contexts, Daemon, write_contexts
from volant.volar.target import choose_daemon

LAB, PROD = Daemon("/run/lab.sock"), Daemon("http://127.0.0.1:7777", "t0ken")


@pytest.fixture(autouse=True)
def contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VOLANT_API_BASE", "VOLANT_CONTEXT", "VOLANT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    write_contexts(find_contexts_file(), Contexts("lab", {"lab": LAB, "prod": PROD}))


def test_the_nearest_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_daemon({}) == LAB
    monkeypatch.setenv("VOLANT_CONTEXT", "prod")
    assert choose_daemon({}) == PROD
    monkeypatch.setenv("VOLANT_API_BASE", "/run/base.sock")
    assert choose_daemon({}) == Daemon("/run/base.sock")
    assert choose_daemon({"context_name": "lab"}) == LAB
    assert choose_daemon({"context_name": "lab", "api": "/run/api.sock"}) == Daemon("/run/api.sock")


def test_default_is_the_users_own_daemon() -> None:
    assert choose_daemon({"context_name": "default"}) is None
    with pytest.raises(NotFound, match="context nowhere"):
        choose_daemon({"context_name": "nowhere"})
