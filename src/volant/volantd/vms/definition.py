# SPDX-License-Identifier: Apache-2.0
"""What a new VM will be: the request, completed by its plugin's manifest and by what is usual on this host."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from volant.contract.agents import Architecture
from volant.contract.egress import OPEN
from volant.contract.manifest import Manifest
from volant.errors import Conflict, InvalidInput
from volant.sizes import read_size
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.hypervisors.base import HypervisorKind
from volant.volantd.network.types import NetworkMode, PortRequest
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.folders import attach_folders, make_mark
from volant.volantd.vms.labels import merge_labels
from volant.volantd.vms.networking import ON_BRIDGE, find_default_mode
from volant.volantd.vms.placed_files import FileRequest, attach_files
from volant.volantd.vms.record import (
    AttachedFolder,
    AttachedSecret,
    AttachedVolume,
    VmDefinition,
    VmResources,
    WakeSource,
    WorkloadSettings,
)
from volant.volantd.vms.request_keys import RequestKey
from volant.volantd.vms.volumes import attach_volumes

# A guest reads some tens of MiB before its workload is up.
LEAST_BANDWIDTH = 64 << 10


@dataclass(frozen=True, slots=True)
class Origin:
    """What a VM is made of in place of its plugin's disk: another's, of one instant."""

    definition: VmDefinition
    layer: Path | None
    wake: WakeSource | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVm:
    """What somebody asks for; None leaves it to the plugin or to this host."""

    name: str
    plugin: str
    vcpu: int | None = None
    memory_mb: int | None = None
    nested: bool | None = None
    hypervisor: HypervisorKind | Literal["auto"] | None = None
    architecture: Architecture | None = None
    network: NetworkMode | None = None
    publish: Sequence[PortRequest] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    run_once: bool = False
    retries: bool = False
    workload: WorkloadSettings = field(default_factory=WorkloadSettings)
    files: Sequence[FileRequest] = ()
    user_data: bytes = b""
    ssh_keys: Sequence[str] = ()
    secrets: Sequence[AttachedSecret] = ()
    volumes: Sequence[tuple[str, str, bool]] = ()
    """Name, target, and whether it is only read; without a name one is made with the VM."""
    made_volumes: Sequence[str] = ()
    """Names of those that are made with it."""
    mounts: Sequence[tuple[str, str, bool]] = ()
    """Folders of this host: source, target, and whether they are only read."""
    disk_size: str | None = None
    disk_bandwidth: str | None = None
    isolated: bool = False
    networks: Sequence[str] = ()
    """Empty: the default one, or those of the VM that it is made of."""
    aliases: Sequence[str] = ()
    egress: str | None = None
    restart: str = "on-failure"
    suspend_when_idle_seconds: int | None = None
    kernel: str | None = None
    kernel_arguments: str = ""
    start: bool = True
    cold: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    deployment: str = ""
    """Whose VM it is, or empty."""
    origin: Origin | None = None
    key: RequestKey | None = None


def choose_plugin(domain: Domain, request: NewVm) -> StoredPlugin:
    """The plugin that is asked for, if VMs can be made of it here. Raises NotFound, Conflict, InvalidInput."""
    plugin = domain.plugins.load(request.plugin)
    if not plugin.enabled:
        raise Conflict(
            f"cannot create VM {request.name}: plugin {plugin.manifest.name} is disabled",
            resolution=f"volar plugins enable {plugin.manifest.name}:{plugin.manifest.version}",
        )
    _check_architecture(request, plugin)
    check_kernel(request.name, plugin.boot, is_chosen=bool(request.kernel or request.kernel_arguments))
    return plugin


def _check_architecture(request: NewVm, plugin: StoredPlugin) -> None:
    """Emulation is asked for, never taken: it is many times slower."""
    wanted = request.architecture or host_architecture()
    if plugin.architecture in ("", wanted):
        return
    built = f"build it again with --platform linux/{wanted}"
    raise InvalidInput(
        f"cannot create VM {request.name}: plugin {plugin.manifest.name} is for {plugin.architecture}, "
        f"and its guest would be {wanted}",
        resolution=f"{built}, or emulate the other: --architecture {plugin.architecture}",
    )


def check_kernel(vm_name: str, boot: str, *, is_chosen: bool) -> None:
    """Refuse to choose what the VM's own boot loader chooses."""
    if is_chosen and boot == "firmware":
        raise Conflict(
            f"cannot choose kernel or kernel arguments of VM {vm_name}: its disk boots a system of its own",
            resolution="change its boot loader's configuration in the guest, e.g. /etc/default/grub",
        )


def check_variables(names: Iterable[str]) -> None:
    for name in names:
        # A key of a ConfigMap (app.port, data-1) is one too: shells do not read all of them, other programs do.
        if not re.fullmatch(r"[!-<>-~]+", name):
            raise InvalidInput(f"cannot set variable {name!r}: a name is plain ASCII without spaces and '='")


def make_definition(domain: Domain, request: NewVm, manifest: Manifest) -> VmDefinition:
    """The request, with what the manifest and this host say where it is silent. Raises InvalidInput, NotFound."""
    for attached in request.secrets:
        domain.secrets.get(attached.name)
    check_variables(request.env)
    domain.networks.check(request.networks)
    # A deployment's VMs are all alike, and go with what they wrote.
    volumes = attach_volumes(domain, request.volumes, request.made_volumes, go=bool(request.deployment))
    mounts = choose_mounts(request, volumes)
    if request.origin is not None:
        return adapt_definition(request, request.origin, volumes)
    files, secrets = attach_files(domain, request.files, request.secrets)
    return VmDefinition(
        resources=VmResources(
            vcpu=request.vcpu or manifest.resources.vcpu,
            memory_mb=request.memory_mb or manifest.resources.memory_mb,
            nested=manifest.resources.nested if request.nested is None else request.nested,
        ),
        network=_choose_network(domain, request, manifest),
        env=dict(request.env),
        entrypoint=list(request.entrypoint),
        command=list(request.command),
        run_once=request.run_once,
        retries=request.retries,
        architecture=request.architecture,
        user_data_base64=base64.b64encode(request.user_data).decode(),
        ssh_keys=list(request.ssh_keys),
        secrets=secrets,
        workload=request.workload,
        placed_files=files,
        volumes=volumes,
        mounts=mounts,
        mounts_mark=make_mark() if mounts else "",
        disk_size_bytes=_choose_disk_size(domain, request, manifest),
        disk_bytes_per_second=read_bandwidth(request.disk_bandwidth),
        isolated=request.isolated,
        networks=list(dict.fromkeys(request.networks)),
        aliases=list(dict.fromkeys(request.aliases)),
        egress=request.egress or (manifest.network.egress if manifest.network else None) or OPEN,
        restart=request.restart,
        suspend_when_idle_seconds=request.suspend_when_idle_seconds or 0,
        kernel=request.kernel,
        kernel_arguments=request.kernel_arguments,
        cold=request.cold,
        labels=merge_labels(manifest.labels, request.labels, request.deployment),
    )


def adapt_definition(request: NewVm, origin: Origin, volumes: list[AttachedVolume]) -> VmDefinition:
    """Of a VM that is made of another one: what that was, but for what is asked for."""
    if volumes and origin.wake is not None:
        raise InvalidInput(
            f"cannot attach volume {volumes[0].name} to VM {request.name}: its memory knows no volume",
            resolution="create it from its plugin, or from a snapshot of a stopped VM",
        )
    definition = origin.definition
    return definition.model_copy(
        update={
            "env": {**definition.env, **request.env},
            "labels": merge_labels(definition.labels, request.labels, request.deployment),
            # The other VM has them.
            "volumes": volumes,
            "networks": list(dict.fromkeys(request.networks)) or definition.networks,
            "aliases": list(dict.fromkeys(request.aliases)) or definition.aliases,
            "egress": request.egress or definition.egress,
            "restart": request.restart,
            "retries": request.retries,
            "suspend_when_idle_seconds": definition.suspend_when_idle_seconds
            if request.suspend_when_idle_seconds is None
            else request.suspend_when_idle_seconds,
            "cold": request.cold,
            "wakes_from": origin.wake,
        }
    )


def choose_mounts(request: NewVm, volumes: Sequence[AttachedVolume]) -> list[AttachedFolder]:
    mounts = attach_folders(request.name, request.mounts)
    targets = [*(volume.target for volume in volumes), *(mount.target for mount in mounts)]
    if twice := [target for target in targets if targets.count(target) > 1]:
        raise InvalidInput(f"cannot mount two things at {twice[0]}")
    if mounts and request.origin is not None:
        raise InvalidInput(
            f"cannot mount {mounts[0].source} in VM {request.name}: it has the mounts of what it is made of",
            resolution="make it of its plugin",
        )
    return mounts


def _choose_network(domain: Domain, request: NewVm, manifest: Manifest) -> NetworkMode:
    usual = (manifest.network.mode if manifest.network else None) or find_default_mode(domain.settings)
    network = request.network or ("user" if request.networks else usual)
    if request.isolated and network not in ON_BRIDGE:
        raise InvalidInput(
            f"cannot isolate VM {request.name}: no other VM reaches it in {network} mode anyway",
            resolution="omit --isolated, or use --network bridged",
        )
    if request.networks and (network == "vsock" or request.isolated):
        reason = "it is to be kept apart" if request.isolated else "it has no network in vsock mode"
        raise InvalidInput(
            f"cannot put VM {request.name} in a network by name: {reason}",
            resolution="omit --isolated, or use --network user or bridged beside --network NAME",
        )
    return network


def read_bandwidth(text: str | None) -> int:
    """Bytes a second; 0 where there is no bound. InvalidInput for less than a guest can live with."""
    if text is None:
        return 0
    found = read_size(text.removesuffix("/s"))
    if found < LEAST_BANDWIDTH:
        raise InvalidInput(
            f"cannot bound a disk to {text!r} a second: a guest would hardly boot",
            resolution="give at least 64K, e.g. --disk-bandwidth 50M",
        )
    return found


def _choose_disk_size(domain: Domain, request: NewVm, manifest: Manifest) -> int | None:
    if request.disk_size is None:
        return None
    wanted = -(-read_size(request.disk_size) // 512) * 512
    smallest = domain.plugins.get(f"{manifest.name}:{manifest.version}").virtual_size_bytes
    if wanted < smallest:
        raise InvalidInput(
            f"cannot create VM {request.name}: its disk of {request.disk_size} would be smaller than the plugin's",
            resolution=f"give at least {smallest >> 20}M",
        )
    return wanted
