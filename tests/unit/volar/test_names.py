# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import click
import pytest
from click.shell_completion import ShellComplete

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Volar
from volant.volar.cli import volar as program
from volant.volar.client import Client
from volant.volar.names import PLUGIN, VM


def complete(client: Client, *words: str, incomplete: str = "") -> list[str]:
    completion = ShellComplete(program, {"obj": client}, "volar", "_VOLAR_COMPLETE")
    return [item.value for item in completion.get_completions(list(words), incomplete)]


def test_what_name_output_prints_is_taken() -> None:
    assert (
        VM.convert("vm/db", None, None)
        == VM.convert("vms/db", None, None)
        == VM.convert("db", None, None)
        == "db"
    )
    assert PLUGIN.convert("plugin/web:1.0.0", None, None) == "web:1.0.0"
    for wrong in ("plugin/web", "vm/"):
        with pytest.raises(click.BadParameter, match="is not the name of a vm"):
            VM.convert(wrong, None, None)


def test_completion_knows_every_vm_beyond_one_page(
    daemon: InProcessDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.install("completed")
    names = [f"completed-{number}" for number in range(4)]
    for name in names:
        daemon.client.post("/vms", {"name": name, "plugin": "completed", "start": False})
    plain = Client.get_all
    monkeypatch.setattr(Client, "get_all", lambda self, path, **query: plain(self, path, limit=2, **query))
    assert complete(daemon.client, "vms", "get", incomplete="completed") == names
    assert complete(daemon.client, "rm", "other", incomplete="completed-3") == ["completed-3"]
    assert complete(daemon.client, "export", "kubevirt", incomplete="completed") == ["completed", *names]


def test_a_daemon_that_does_not_run_is_not_started_for_a_tab() -> None:
    assert complete(Client("/nowhere/volantd.sock"), "vms", "get") == []


def test_names_go_from_one_command_to_the_next(daemon: InProcessDaemon, volar: Volar) -> None:
    daemon.install("chain")
    daemon.client.post("/vms", {"name": "chained", "plugin": "chain", "start": False})
    printed = volar("vms", "list", "--plugin", "plugin/chain", "-o", "name").out.split()
    assert printed == ["vm/chained"]
    assert volar("vms", "delete", *printed).out == "deleted chained\n"
    (plugin,) = [name for name in volar("plugins", "list", "-o", "name").out.split() if "chain" in name]
    assert volar("plugins", "remove", plugin).out == "removed chain:1.0.0\n"
