# SPDX-License-Identifier: Apache-2.0
"""The SDK against the whole API in this process; guests are shown by the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_plugin
from volant.client import Client
from volant.errors import GuestFailed, NotFound


def test_plugins_vms_and_secrets_come_and_go(daemon: InProcessDaemon, tmp_path: Path) -> None:
    client = daemon.client
    archive = tmp_path / "web.tar.gz"
    archive.write_bytes(make_plugin("web", "1.0.0"))
    assert client.install_plugin(archive)["name"] == "web"
    client.set_secret("key", b"value")
    made = client.create_vm(
        {
            "name": "one",
            "plugin": "web",
            "start": False,
            "secrets": [{"name": "key"}],
            "labels": {"team": "a"},
        }
    )
    assert made["status"] == "created"
    assert client.update_vm("one", {"labels": {"team": None, "tier": "b"}})["labels"] == {"tier": "b"}
    assert [vm["name"] for vm in client.list_vms(label=["tier=b"])] == ["one"]
    assert client.list_secrets()[0]["vms"] == ["one"]
    client.delete_vm("one")
    client.delete_secret("key")
    client.remove_plugin("web:1.0.0")
    assert (client.list_vms(), client.list_secrets(), client.list_plugins()) == ([], [], [])
    with pytest.raises(NotFound):
        client.get_vm("one")


def test_what_cannot_become_so_is_not_waited_for(daemon: InProcessDaemon) -> None:
    daemon.install("web")
    daemon.client.create_vm({"name": "one", "plugin": "web", "start": False})
    with pytest.raises(GuestFailed, match="one is not healthy but created"):
        daemon.client.wait("one", "healthy", timeout_seconds=0)


def test_events_are_dictionaries(daemon: InProcessDaemon) -> None:
    daemon.add_event("note", "one", text="a\nb")
    assert [(event["kind"], event["data"]) for event in daemon.client.events(vm="one")] == [
        ("note", {"text": "a\nb"})
    ]


def test_the_daemon_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    monkeypatch.delenv("VOLANT_API_BASE", raising=False)
    assert Client().address.startswith(str(tmp_path))
    monkeypatch.setenv("VOLANT_API_BASE", "http://127.0.0.1:1")
    monkeypatch.setenv("VOLANT_TOKEN", "t")
    assert (Client().address, Client().token) == ("http://127.0.0.1:1", "t")
    assert Client("/elsewhere").token is None, "a token is for the daemon that it was given with"
