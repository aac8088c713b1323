# SPDX-License-Identifier: Apache-2.0
"""Changing what a VM is: a pure function of its record and of what is asked for, but for the look at free ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from volant.errors import InvalidInput
from volant.sizes import read_size
from volant.volantd.network.types import EVERYWHERE, PortRequest, PublishedPort
from volant.volantd.vms.addresses import leave_out_covered, publish
from volant.volantd.vms.definition import check_variables
from volant.volantd.vms.labels import check_labels
from volant.volantd.vms.record import VmDefinition, VmRecord, VmResources

SECTOR_BYTES = 512
# Who holds a VM's ports is decided when it starts or goes on.
SLEEP = "suspend_when_idle_seconds"
# As long as nobody has held the VM to it that runs.
EGRESS = "egress"
# What a process that runs has been given already; the rest counts at once.
AT_START = frozenset(
    {"vcpu", "memory_mb", "disk_size", "env", "publish", "kernel", "kernel_arguments", EGRESS, SLEEP}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmUpdate:
    """None leaves it as it is; in a mapping it removes the key. `publish` replaces what was asked for before, as do
    `kernel_arguments`; `kernel` "" is the usual one."""

    vcpu: int | None = None
    memory_mb: int | None = None
    disk_size: str | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)
    publish: Sequence[PortRequest] | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    restart: str | None = None
    kernel: str | None = None
    kernel_arguments: str | None = None
    suspend_when_idle_seconds: int | None = None
    egress: str | None = None


@dataclass(frozen=True, slots=True)
class UpdatedVm:
    """`changed` names fields of VmUpdate."""

    definition: VmDefinition
    ports: tuple[PublishedPort, ...]
    changed: tuple[str, ...]

    @property
    def at_start(self) -> tuple[str, ...]:
        return tuple(name for name in self.changed if name in AT_START)


def apply_update(record: VmRecord, update: VmUpdate, disk_bytes: int) -> UpdatedVm:
    """`disk_bytes`: what the root disk has now. Raises InvalidInput, Conflict for a port in use."""
    before = record.definition
    check_variables(update.env)
    check_labels(update.labels)
    definition = before.model_copy(
        update={
            "resources": VmResources(
                vcpu=update.vcpu or before.resources.vcpu,
                memory_mb=update.memory_mb or before.resources.memory_mb,
                nested=before.resources.nested,
            ),
            "disk_size_bytes": _grow(record, update.disk_size, disk_bytes),
            "env": _merge(before.env, update.env),
            "labels": _merge(before.labels, update.labels),
            "restart": update.restart or before.restart,
            "kernel": before.kernel if update.kernel is None else update.kernel or None,
            "kernel_arguments": before.kernel_arguments
            if update.kernel_arguments is None
            else update.kernel_arguments,
            EGRESS: update.egress or before.egress,
            SLEEP: before.suspend_when_idle_seconds
            if update.suspend_when_idle_seconds is None
            else update.suspend_when_idle_seconds,
        }
    )
    ports = record.ports if update.publish is None else _publish(record, update.publish)
    differences = {
        "vcpu": definition.resources.vcpu != before.resources.vcpu,
        "memory_mb": definition.resources.memory_mb != before.resources.memory_mb,
        "disk_size": definition.disk_size_bytes != before.disk_size_bytes,
        "env": definition.env != before.env,
        "publish": ports != record.ports,
        "labels": definition.labels != before.labels,
        "restart": definition.restart != before.restart,
        "kernel": definition.kernel != before.kernel,
        "kernel_arguments": definition.kernel_arguments != before.kernel_arguments,
        EGRESS: definition.egress != before.egress,
        SLEEP: definition.suspend_when_idle_seconds != before.suspend_when_idle_seconds,
    }
    return UpdatedVm(definition, ports, tuple(name for name, differs in differences.items() if differs))


def _merge(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**before, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _grow(record: VmRecord, text: str | None, disk_bytes: int) -> int | None:
    if text is None:
        return record.definition.disk_size_bytes
    wanted = -(-read_size(text) // SECTOR_BYTES) * SECTOR_BYTES
    if wanted < disk_bytes:
        raise InvalidInput(
            f"cannot make the disk of VM {record.name} smaller: it has {disk_bytes >> 20} MiB",
            resolution="choose a larger size; disks cannot be shrunk",
        )
    return wanted


def _publish(record: VmRecord, requests: Sequence[PortRequest]) -> tuple[PublishedPort, ...]:
    """The address of its own keeps its ports; one that the VM itself has is not in use."""
    if requests and record.address is None:
        raise InvalidInput(f"cannot publish ports of VM {record.name}: it has no network")
    usual = leave_out_covered(_find_usual(record), requests)
    own = {(port.host_ip, port.host_port, port.protocol) for port in record.ports}
    kept, new = [], []
    for request in requests:
        host_ip = request.host_ip or "127.0.0.1"
        if request.host_port and (host_ip, request.host_port, request.protocol) in own:
            kept.append(PublishedPort(host_ip, request.host_port, request.guest_port, request.protocol))
        else:
            new.append(request)
    stays = [*usual, *(port for port in kept if port not in usual)]
    if len(set(kept)) < len(kept) or any(a.collides_with(b) for a, b in combinations(stays, 2)):
        raise InvalidInput(f"cannot publish a port of VM {record.name} twice")
    return (*stays, *publish(new, stays))


def _find_usual(record: VmRecord) -> list[PublishedPort]:
    """What is published at the address of its own, or would be, were it not published everywhere."""
    found = [port for port in record.ports if port.host_ip == record.address]
    if found or record.address is None or record.definition.network != "user":
        return found
    return [replace(port, host_ip=record.address) for port in record.ports if port.host_ip == EVERYWHERE[0]]
