# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import volant
from volant import installation


def pretend_origin(monkeypatch: pytest.MonkeyPatch, written: str | None) -> None:
    found = SimpleNamespace(read_text=lambda name: written if name == "direct_url.json" else None)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: found)


def test_a_debian_package_is_mended_by_a_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volant, "__file__", "/usr/lib/volant/lib/site-packages/volant/__init__.py")
    assert installation.name_install_command("daemon") == "sudo apt-get install volant-daemon"


def test_a_part_without_a_debian_package_comes_from_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volant, "__file__", "/usr/lib/volant/lib/site-packages/volant/__init__.py")
    assert installation.name_install_command("mcp").startswith("pipx install '.[all,mcp]' in a clone")


def test_pipx_installs_from_where_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/home/ann/.local/share/pipx/venvs/volant")
    pretend_origin(monkeypatch, json.dumps({"url": "file:///tmp/volant-1.0-py3-none-any.whl"}))
    assert installation.name_install_command("fledge") == (
        "pipx runpip volant install 'volant[fledge] @ file:///tmp/volant-1.0-py3-none-any.whl'"
    )


def test_a_copy_from_an_index_is_named_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/tools")
    monkeypatch.setattr(sys, "executable", "/opt/tools/bin/python")
    pretend_origin(monkeypatch, None)
    assert (
        installation.name_install_command("fledge") == "/opt/tools/bin/python -m pip install 'volant[fledge]'"
    )


def test_this_checkout_is_no_debian_package() -> None:
    assert not installation.is_debian_package()
    assert Path(volant.__file__).parent.name == "volant"
