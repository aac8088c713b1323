# SPDX-License-Identifier: Apache-2.0
"""What is to be exported, by its name: a VM, or a plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from volant.errors import NotFound
from volant.volar.client import Client, quoted
from volant.volar.names import Name

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin, Vm
    from volant.contract.boot_files import BootDocument
    from volant.volar.export.machine import ExportedMachine


@dataclass(frozen=True, slots=True)
class Subject:
    """A VM and its plugin, or a plugin alone."""

    plugin: Plugin
    vm: Vm | None = None

    @property
    def name(self) -> str:
        return self.plugin["name"] if self.vm is None else self.vm["name"]

    @property
    def path(self) -> str:
        """Where the daemon has what boots it."""
        kind = "plugins" if self.vm is None else "vms"
        return f"/{kind}/{quoted(self.name)}/boot-files"

    @property
    def image_tag(self) -> str:
        """Its version, as a tag may be: without the + of a semantic version's build."""
        return re.sub(r"[^A-Za-z0-9_.-]", "-", self.plugin["version"])

    def describe(self, document: BootDocument, image: str) -> ExportedMachine:
        from volant.volar.export.machine import describe_plugin, describe_vm

        if self.vm is None:
            return describe_plugin(self.plugin, document, image)
        return describe_vm(self.vm, self.plugin, document, image)


class VmOrPlugin(Name):
    """NAME of either, vm/NAME, plugin/NAME or plugin/NAME:VERSION: as `-o name` prints them."""

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        kind, slash, rest = value.partition("/")
        if not slash:
            return value
        kind = kind.removesuffix("s")
        if kind not in ("vm", "plugin") or not rest:
            self.fail(f"{value!r} is neither vm/NAME nor plugin/NAME", parameter, context)
        return f"{kind}/{rest}"


def _list_names(client: Client) -> Iterator[str]:
    yield from (vm["name"] for vm in client.list_vms())
    yield from (plugin["name"] for plugin in client.list_plugins())


SUBJECT = VmOrPlugin("vm or plugin", _list_names)


def find_subject(client: Client, text: str) -> Subject:
    """The VM of that name, else the plugin. Raises NotFound."""
    kind, slash, name = text.partition("/")
    name = name if slash else text
    if kind != "plugin" and ":" not in name:
        try:
            vm = client.get_vm(name)
        except NotFound:
            if kind == "vm":
                raise
        else:
            plugin = vm["plugin"]
            return Subject(client.get_plugin(f"{plugin['name']}:{plugin['version']}"), vm)
    try:
        return Subject(client.get_plugin(name))
    except NotFound as error:
        raise NotFound(
            f"cannot export {name}: there is no VM and no plugin of that name",
            resolution="see volar vms list and volar plugins list",
        ) from error
