# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon, start_in_process
from support.plugin_files import make_plugin
from support.signing_keys import make_key, write_private, write_public
from volant.volar.cli import run


def test_a_policy_is_shown_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = make_key()
    Path("cosign.key").write_bytes(write_private(key))
    Path("cosign.pub").write_text(write_public(key))
    Path("web.tar.gz").write_bytes(make_plugin("web"))
    with start_in_process() as daemon:
        check(daemon, capsys)


def check(daemon: InProcessDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["system", "policy", "set", "r.io/team/web", "--key", "cosign.pub"], daemon.client) == 0
    assert run(["system", "policy", "show", "-o", "json"], daemon.client) == 0
    (rule,) = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert (rule["scope"], rule["verdict"], len(rule["keys"])) == ("r.io/team/web", "signed", 1)
    assert run(["system", "policy", "set", "r.io/a", "--key", "cosign.key"], daemon.client) == 3
    assert run(["system", "policy", "set", "r.io/a"], daemon.client) == 2
    assert run(["system", "policy", "remove", "r.io/team/web"], daemon.client) == 0
    assert run(["plugins", "install", "web.tar.gz"], daemon.client) == 0
