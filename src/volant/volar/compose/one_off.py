# SPDX-License-Identifier: Apache-2.0
"""`volar compose run`: a VM beside a service's own, as the service is, for one command."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volant.volar.compose import project_vms
from volant.volar.compose.plugins import find_plugins
from volant.volar.compose.project_vms import ONE_OFF_LABEL
from volant.volar.compose.requests import DIGEST_LABEL, SERVICE_LABEL
from volant.volar.compose.stack_commands import Composer, UpOptions

if TYPE_CHECKING:
    from volant.contract.api_types import VmCreate
    from volant.volar.compose.requests import ServiceRequest


@dataclass(frozen=True)
class OneOff:
    """What is other than in the service. Empty: as there."""

    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    name: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    workdir: str | None = None
    has_ports: bool = False


def start_one_off(composer: Composer, service: str, wanted: OneOff, options: UpOptions) -> str:
    """The name of its VM, which starts; what the service depends on is up then."""
    needed = [name for name in composer.select([service], alone=options.no_deps) if name != service]
    if needed:
        composer.up(needed, options)
        composer.wait(options.timeout_seconds)
    else:
        composer.warn()
    request = composer.read_requests([service])[service]
    found = find_plugins(composer.client, composer.project, [service], build=options.build, pull=options.pull)
    composer.prepare()
    name = (
        wanted.name
        or f"{project_vms.name_deployment(composer.project.name, service)}-run-{secrets.token_hex(4)}"
    )
    composer.client.create_vm(make_body(name, request, found[service], wanted))
    return name


def make_body(name: str, request: ServiceRequest, plugin: str, wanted: OneOff) -> VmCreate:
    """As docker compose run: without the service's ports and its names in networks, and never started again."""
    body: VmCreate = {**request.body, "name": name, "restart": "no", "run_once": True}
    labels = {key: text for key, text in body["labels"].items() if key not in (SERVICE_LABEL, DIGEST_LABEL)}
    body["labels"] = {**labels, ONE_OFF_LABEL: request.name}
    body["env"] = {**body.get("env", {}), **dict(wanted.env)}
    body["health_check"] = {"test": ["NONE"]}
    body.pop("aliases", None)
    if "snapshot" not in body:
        body["plugin"] = plugin
    if not wanted.has_ports:
        body["publish"] = []
    if wanted.entrypoint is not None:
        body["entrypoint"] = [wanted.entrypoint] if wanted.entrypoint else list(wanted.command)
        body["command"] = list(wanted.command) if wanted.entrypoint else []
    elif wanted.command:
        body["command"] = list(wanted.command)
    if wanted.user is not None:
        body["user"] = wanted.user
    if wanted.workdir is not None:
        body["working_dir"] = wanted.workdir
    return body


def read_variables(texts: Sequence[str], environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE, or NAME alone with the value that it has here."""
    pairs = [text.partition("=") for text in texts]
    return tuple(
        (name, value if sign else environment[name])
        for name, sign, value in pairs
        if sign or name in environment
    )
