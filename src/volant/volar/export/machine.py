# SPDX-License-Identifier: Apache-2.0
"""What is exported, as one value: a plugin, or a VM with what it was made with."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volant.errors import InvalidInput

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin, Vm
    from volant.contract.boot_files import BootDocument

MOST_NAME = 63
STOP_RESERVE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Port:
    """`port` is what others connect to, `target` the guest's own."""

    port: int
    target: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Check:
    """An HTTP request to `path`, or where that is None a TCP connection."""

    port: int
    path: str | None = None
    period_seconds: int = 10
    timeout_seconds: int = 2
    failures: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedMachine:
    """`name` as Kubernetes takes it; `image` is where the image of its disk will be; `document` from the daemon."""

    name: str
    image: str
    version: str
    vcpu: int
    memory_mb: int
    document: BootDocument
    ports: tuple[Port, ...] = ()
    check: Check | None = None
    restart: str = "on-failure"
    labels: Mapping[str, str] = field(default_factory=dict)


def describe_plugin(plugin: Plugin, document: BootDocument, image: str) -> ExportedMachine:
    manifest = plugin["manifest"]
    port = manifest["workload"]["port"]
    return ExportedMachine(
        name=make_name(plugin["name"]),
        image=image,
        version=plugin["version"],
        vcpu=manifest["resources"]["vcpu"],
        memory_mb=manifest["resources"]["memory_mb"],
        document=document,
        ports=(Port(port, port),) if port is not None else (),
        check=find_check(plugin),
    )


def describe_vm(vm: Vm, plugin: Plugin, document: BootDocument, image: str) -> ExportedMachine:
    published = sorted({(each["host_port"], each["guest_port"], each["protocol"]) for each in vm["ports"]})
    return ExportedMachine(
        name=make_name(vm["name"]),
        image=image,
        version=plugin["version"],
        vcpu=vm["resources"]["vcpu"],
        memory_mb=vm["resources"]["memory_mb"],
        document=document,
        ports=tuple(Port(*each) for each in published),
        check=find_check(plugin),
        restart=vm["restart"],
        labels=vm["labels"],
    )


def find_check(plugin: Plugin) -> Check | None:
    """From outside only requests and connections can be made: what else a plugin checks counts in its guest alone."""
    manifest = plugin["manifest"]
    port, check = manifest["workload"]["port"], manifest["health_check"]
    if port is None:
        return None
    if check is None:
        return Check(port)
    return Check(
        port,
        check["endpoint"],
        period_seconds=math.ceil(check["interval_ms"] / 1000),
        timeout_seconds=math.ceil(check["timeout_ms"] / 1000),
        failures=check["retries"],
    )


def make_name(name: str) -> str:
    """As a Service may be called, which is the narrowest of Kubernetes' rules (RFC 1035, a label)."""
    made = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    made = made if made[:1].isalpha() else f"vm-{made}"
    if len(made) > MOST_NAME - len("-environment"):
        raise InvalidInput(
            f"cannot export {name}: with what is appended to it Kubernetes would not take so long a name",
            resolution=f"give another one: --name {made[:20].rstrip('-')}",
        )
    return made
