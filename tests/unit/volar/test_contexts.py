# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from volant.contract.paths import find_contexts_file
from volant.errors import InvalidInput, NotFound, NotPermitted
from volant.volar.contexts import (
    OWN,
    Contexts,
    Daemon,
    find_token,
    read_contexts,
    write_contexts,
)


def test_what_is_kept_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "contexts.json"
    assert read_contexts(path) == Contexts(OWN, {})
    kept = Contexts(
        "prod", {"prod": Daemon("http://127.0.0.1:7777", "t0ken"), "lab": Daemon("/run/lab.sock")}
    )
    write_contexts(path, kept)
    assert read_contexts(path) == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "token" not in json.loads(path.read_text())["contexts"]["lab"]


def test_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "contexts.json"
    write_contexts(path, Contexts(OWN, {}))
    path.chmod(0o640)
    with pytest.raises(NotPermitted, match="others may read") as raised:
        read_contexts(path)
    assert raised.value.resolution == f"chmod 600 {path}"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"current": 1, "contexts": {"a": {}}}', '{"current": "a", "contexts": 3}']
)
def test_a_file_that_is_none_of_ours_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "contexts.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match="not written by volar"):
        read_contexts(path)


def test_names_lead_to_daemons() -> None:
    contexts = Contexts("lab", {"lab": Daemon("/run/lab.sock")})
    assert contexts.find("lab") == Daemon("/run/lab.sock")
    assert contexts.find(OWN) is None
    with pytest.raises(NotFound):
        contexts.find("other")


def test_the_file_follows_volants_home_and_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_contexts_file({"HOME": "/home/u"}) == Path("/home/u/.config/volant/contexts.json")
    assert find_contexts_file({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == Path("/c/volant/contexts.json")
    assert find_contexts_file({"HOME": "/h", "VOLANT_HOME": "/v"}) == Path("/v/contexts.json")
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    write_contexts(find_contexts_file(), Contexts(OWN, {"a": Daemon("http://127.0.0.1:1", "one")}))
    assert find_token("http://127.0.0.1:1") == "one"
    assert find_token("/run/other.sock") is None
