# SPDX-License-Identifier: Apache-2.0
"""Between the API's models of VMs and the domain's own types, in both directions."""

from __future__ import annotations

import base64
from dataclasses import asdict

from volant.contract.agent import CloudInitState
from volant.contract.api import (
    AgentInfo,
    Crash,
    HypervisorInfo,
    MountAttachment,
    PluginReference,
    PublishedPort,
    Vm,
    VmCreate,
    VmEgress,
    VmUpdate,
)
from volant.contract.manifest import Resources
from volant.contract.volumes_api import VolumeAttachment
from volant.errors import Conflict, NotFound
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.network.types import PortRequest
from volant.volantd.vms import update
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.egress import find_counts
from volant.volantd.vms.networking import find_told_ipv6_address, find_warnings, list_networks, make_url
from volant.volantd.vms.placed_files import FileRequest
from volant.volantd.vms.record import AttachedSecret, VmRecord, WorkloadSettings
from volant.volantd.vms.start_kind import find_start
from volant.volantd.vms.states import WITH_PROCESS


def read_request(request: VmCreate) -> NewVm:
    given = request.resources.model_dump(exclude_unset=True) if request.resources else {}
    return NewVm(
        name=request.name,
        plugin=request.plugin,
        vcpu=given.get("vcpu"),
        memory_mb=given.get("memory_mb"),
        nested=given.get("nested"),
        architecture=request.architecture,
        network=request.network,
        publish=[PortRequest(**port.model_dump()) for port in request.publish],
        env=request.env,
        entrypoint=request.entrypoint,
        command=request.command,
        run_once=request.run_once,
        # The default is for VMs that fail: who says nothing of restarts wants a command to be run once.
        retries=request.run_once and "restart" in request.model_fields_set,
        workload=WorkloadSettings.model_validate(
            request.model_dump(include=set(WorkloadSettings.model_fields)),
        ),
        files=[FileRequest(**file.model_dump()) for file in request.files],
        user_data=base64.b64decode(request.user_data_base64 or ""),
        ssh_keys=request.ssh_keys,
        secrets=[AttachedSecret(**attached.model_dump()) for attached in request.secrets],
        volumes=[(volume.name, volume.target, volume.read_only) for volume in request.volumes],
        mounts=[(mount.source, mount.target, mount.read_only) for mount in request.mounts],
        disk_size=request.disk_size,
        disk_bandwidth=request.disk_bandwidth,
        isolated=request.isolated,
        networks=request.networks,
        aliases=request.aliases,
        egress=request.egress,
        restart=request.restart,
        hypervisor=request.hypervisor,
        suspend_when_idle_seconds=request.suspend_when_idle_seconds,
        kernel=request.kernel,
        kernel_arguments=request.kernel_arguments,
        start=request.start,
        cold=request.cold,
        labels=request.labels,
    )


def read_update(request: VmUpdate) -> update.VmUpdate:
    publish = request.publish
    return update.VmUpdate(
        vcpu=request.vcpu,
        memory_mb=request.memory_mb,
        disk_size=request.disk_size,
        env=request.env,
        publish=None if publish is None else [PortRequest(**port.model_dump()) for port in publish],
        labels=request.labels,
        restart=request.restart,
        kernel=request.kernel,
        kernel_arguments=request.kernel_arguments,
        suspend_when_idle_seconds=request.suspend_when_idle_seconds,
        egress=request.egress,
    )


def _find_reason(record: VmRecord, problem: str) -> str:
    """Why the VM is in its state, or what is wrong with it."""
    reason = record.reason or problem
    if record.state in WITH_PROCESS and record.has_own_system:
        return reason or "no agent answers: it boots its own system"
    return reason


def describe_vm(domain: Domain, record: VmRecord, problem: str) -> Vm:
    """A VM for the API. `problem` is what its machine complains about while it runs, or empty."""
    guest = record.guest
    runs = record.state in WITH_PROCESS
    hypervisor = None
    if record.spec is not None:
        hypervisor = HypervisorInfo(
            kind=record.hypervisor,
            accelerator=record.spec.accelerator,
            emulates=record.spec.architecture if record.spec.architecture != host_architecture() else None,
            pid=record.process.pid if record.process and runs else None,
            kernel=guest.kernel if guest else "",
        )
    return Vm(
        id=record.id,
        name=record.name,
        status=record.state.value,
        status_reason=_find_reason(record, problem if runs else ""),
        health=guest.health if guest and runs else "unknown",
        health_reason=guest.health_reason if guest and runs else "",
        checks=guest.checks if guest and runs else [],
        processes=guest.processes if guest and runs else [],
        last_message=next((one.message for one in guest.processes if one.message), "") if guest else "",
        warnings=[
            *(guest.warnings if guest else []),
            *(find_warnings(record, domain.shared_network) if runs else []),
        ],
        plugin=PluginReference(name=record.plugin_name, version=record.plugin_version),
        resources=Resources(**record.definition.resources.model_dump()),
        network=record.definition.network,
        networks=list_networks(record),
        aliases=record.definition.aliases,
        isolated=record.definition.isolated,
        egress=_describe_egress(domain, record),
        disk_bytes_per_second=record.definition.disk_bytes_per_second,
        ip=record.address,
        ip6=find_told_ipv6_address(record),
        url=_find_url(domain, record),
        ports=[PublishedPort(**asdict(port)) for port in record.ports],
        agent=AgentInfo(**record.agent.model_dump()),
        hypervisor=hypervisor,
        cloud_init=guest.cloud_init if guest else CloudInitState(),
        **record.definition.workload.model_dump(include={"stdin", "tty"}),
        secrets=[attached.name for attached in record.definition.secrets],
        volumes=_list_volumes(record),
        mounts=_list_mounts(record),
        labels=record.definition.labels,
        restart=record.definition.restart,
        kernel=record.definition.kernel,
        kernel_arguments=record.definition.kernel_arguments,
        suspend_when_idle_seconds=record.definition.suspend_when_idle_seconds,
        restarts=record.restarts,
        pending=list(record.pending),
        exit_code=record.exit_code,
        crash=Crash(**asdict(record.crash)) if record.crash is not None else None,
        last_console_lines=list(record.last_lines),
        created_at=record.created_at,
        started_at=record.started_at,
        started_from=find_start(record.spec),
    )


def _find_url(domain: Domain, record: VmRecord) -> str | None:
    """None too where the plugin's row is damaged: that one is told in the log, and the VM is shown."""
    try:
        return make_url(record, domain.plugins.load(record.plugin_reference).manifest)
    except (Conflict, NotFound):
        return None


def _list_volumes(record: VmRecord) -> list[VolumeAttachment]:
    return [
        VolumeAttachment(name=volume.name, target=volume.target, read_only=volume.read_only)
        for volume in record.definition.volumes
    ]


def _list_mounts(record: VmRecord) -> list[MountAttachment]:
    return [
        MountAttachment(source=mount.source, target=mount.target, read_only=mount.read_only)
        for mount in record.definition.mounts
    ]


def _describe_egress(domain: Domain, record: VmRecord) -> VmEgress:
    counts = find_counts(domain, record)
    if counts is None:
        return VmEgress(policy=record.definition.egress)
    return VmEgress(
        policy=record.definition.egress,
        allowed=counts.allowed,
        denied=counts.refused,
        recently_denied=list(counts.recent),
    )
