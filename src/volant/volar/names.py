# SPDX-License-Identifier: Apache-2.0
"""Names of things as arguments: completed from what the daemon knows, and taken as `-o name` prints them (vm/db)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from volant.errors import VolantError
from volant.volar.client import Client
from volant.volar.target import make_client

if TYPE_CHECKING:
    Parameter = click.ParamType[Any]
else:
    Parameter = click.ParamType  # generic for type checkers only, from click 8.2 on


class Name(Parameter):
    """A name, or KIND/NAME."""

    name = "name"

    def __init__(self, kind: str, find_names: Callable[[Client], Iterable[str]]) -> None:
        self.kind, self.find_names = kind, find_names

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        kind, slash, rest = value.partition("/")
        if not slash:
            return value
        if kind not in (self.kind, f"{self.kind}s") or not rest:
            self.fail(f"{value!r} is not the name of a {self.kind}", parameter, context)
        return rest

    def shell_complete(
        self, context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        # A daemon that does not run is not started for a Tab.
        client = make_client(context, autostart=False)
        try:
            names = sorted(set(self.find_names(client)))
        except VolantError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


VM = Name("vm", lambda client: (vm["name"] for vm in client.list_vms()))
PLUGIN = Name("plugin", lambda client: (plugin["name"] for plugin in client.list_plugins()))
SECRET = Name("secret", lambda client: (secret["name"] for secret in client.list_secrets()))
SNAPSHOT = Name("snapshot", lambda client: (snapshot["name"] for snapshot in client.list_snapshots()))
VOLUME = Name("volume", lambda client: (volume["name"] for volume in client.list_volumes()))
NETWORK = Name("network", lambda client: (network["name"] for network in client.list_networks()))
DEPLOYMENT = Name("deployment", lambda client: (each["name"] for each in client.list_deployments()))
TOKEN = Name("token", lambda client: (token["name"] for token in client.list_tokens()))

vm_argument = click.argument("name", type=VM)
vms_argument = click.argument("names", nargs=-1, required=True, type=VM)
