# SPDX-License-Identifier: Apache-2.0
"""The stack's networks: which of them a service's VMs are in, by which names, and that they are there.

The daemon's are known by the label of their stack: `down` removes these, whatever the files say by then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress

from volant.contract.names import NAME_PATTERN
from volant.errors import Conflict, InvalidInput, NotFound
from volant.volar.client import Client
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Network

PROJECT_LABEL = "volant.compose.project"
DEFAULT = "default"
Tell = Callable[[str], None]


def name_network(project: Project, key: str) -> str:
    """What a network of the file is called at the daemon."""
    network = find_network(project, key)
    if network.name or network.external:
        return network.name or key
    return re.sub(r"[^a-z0-9_-]", "-", f"{project.name}_{key}".lower())[:63]


def find_network(project: Project, key: str) -> Network:
    return project.stack.networks.get(key) or Network.model_validate({})


def read_networks(project: Project, service_name: str) -> list[str]:
    """Those that a service's VMs are in. InvalidInput for one that the file has not."""
    keys = list(project.stack.services[service_name].networks) or [DEFAULT]
    for key in keys:
        if key != DEFAULT and key not in project.stack.networks:
            raise InvalidInput(
                f"cannot use services.{service_name}.networks: there is no network {key}",
                resolution=f"add it at the end of the file: networks: {{{key}: }}",
            )
    return [name_network(project, key) for key in keys]


def read_aliases(project: Project, service_name: str, notes: list[str]) -> list[str]:
    """Names that others reach a service's VMs by: its own, those it gives itself, and those of links to it."""
    service = project.stack.services[service_name]
    place = f"services.{service_name}"
    names = {place: service_name}
    if service.container_name:
        names[f"{place}.container_name"] = service.container_name
    if service.hostname:
        names[f"{place}.hostname"] = service.hostname.partition(".")[0]
    for key, network in service.networks.items():
        for number, alias in enumerate(network.aliases):
            names[f"{place}.networks.{key}.aliases[{number}]"] = alias
        if network.aliases and len(service.networks) > 1:
            notes.append(f"{place}.networks.{key}.aliases: known in each of the service's networks")
    for name, other in project.stack.services.items():
        for number, link in enumerate(other.links):
            target, sign, alias = link.partition(":")
            if target == service_name and sign:
                names[f"services.{name}.links[{number}]"] = alias
    found = []
    for where, name in names.items():
        if re.fullmatch(NAME_PATTERN, name.lower()):
            found.append(name.lower())
        else:
            notes.append(
                f"{where}: left out as a name in networks: {name} is not one word of letters and digits"
            )
    return list(dict.fromkeys(found))


def make_networks(client: Client, project: Project, wanted: Iterable[str], tell: Tell) -> None:
    """NotFound for an external one that is not there."""
    there = {network["name"]: network for network in client.list_networks()}
    keys = {name_network(project, key): key for key in (DEFAULT, *project.stack.networks)}
    for name in dict.fromkeys(wanted):
        network = find_network(project, keys[name])
        if name in there:
            if not network.external and there[name]["internal"] != network.internal:
                tell(f"warning: network {name} stays as it was made: volar compose down, and up again")
            continue
        if network.external:
            raise NotFound(
                f"cannot find the external network {name}", resolution=f"volar networks create {name}"
            )
        with suppress(Conflict):  # another `up` was quicker
            labels = {**network.labels, PROJECT_LABEL: project.name}
            client.create_network(name, internal=network.internal, labels=labels)
            tell(f"{name}: network made")


def delete_networks(client: Client, project: str, tell: Tell) -> None:
    """Those that were made for the stack, unless another's VM is in one."""
    for network in client.list_networks():
        if network["labels"].get(PROJECT_LABEL) != project:
            continue
        try:
            with suppress(NotFound):
                client.delete_network(network["name"])
        except Conflict as error:
            tell(f"warning: {error.what}")
        else:
            tell(f"{network['name']}: network removed")
