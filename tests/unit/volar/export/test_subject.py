# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import click
import pytest

from volant.errors import NotFound
from volant.volar.client import Client
from volant.volar.export.subject import SUBJECT, find_subject

PLUGIN = {"name": "web", "version": "1.0.0+arm"}
VM = {"name": "web", "plugin": PLUGIN}


class OfOneName(Client):
    """Knows a VM and a plugin `web`, and a plugin `nginx`."""

    def __init__(self) -> None:
        super().__init__("nowhere")

    def get_vm(self, name: str) -> Any:
        if name != "web":
            raise NotFound("no VM")
        return VM

    def get_plugin(self, reference: str) -> Any:
        if reference.partition(":")[0] not in ("web", "nginx"):
            raise NotFound("no plugin")
        return {**PLUGIN, "name": reference.partition(":")[0]}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("web", "/vms/web/boot-files"),
        ("vm/web", "/vms/web/boot-files"),
        ("plugin/web", "/plugins/web/boot-files"),
        ("web:1.0.0", "/plugins/web/boot-files"),
        ("plugin/web:1.0.0", "/plugins/web/boot-files"),
        ("nginx", "/plugins/nginx/boot-files"),
    ],
)
def test_a_vm_comes_before_a_plugin_of_its_name(text: str, path: str) -> None:
    assert SUBJECT.convert(text, None, None) == text
    assert find_subject(OfOneName(), text).path == path


def test_a_version_is_a_tag() -> None:
    assert find_subject(OfOneName(), "web").image_tag == "1.0.0-arm"


@pytest.mark.parametrize("text", ["other", "vm/other", "plugin/other"])
def test_what_is_neither_is_not_found(text: str) -> None:
    with pytest.raises(NotFound):
        find_subject(OfOneName(), text)


def test_other_kinds_are_refused() -> None:
    with pytest.raises(click.BadParameter):
        SUBJECT.convert("secret/key", None, None)
    assert SUBJECT.convert("plugins/web", None, None) == "plugin/web"
