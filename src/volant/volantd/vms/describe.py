# SPDX-License-Identifier: Apache-2.0
"""A VM as the API shows it, from what the registry and the agent know."""

from __future__ import annotations

from volant.contract.api import HypervisorInfo, PluginReference, Vm
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.networking import find_warnings, make_url
from volant.volantd.vms.registry import VmRecord
from volant.volantd.vms.states import WITH_PROCESS


def describe_vm(domain: Domain, record: VmRecord, problem: str) -> Vm:
    """A VM for the API. `problem` is what its machine complains about while it runs, or empty."""
    guest = record.guest
    runs = record.state in WITH_PROCESS
    hypervisor = None
    if record.spec is not None:
        hypervisor = HypervisorInfo(
            kind=domain.hypervisor.kind,
            accelerator=record.spec.accelerator,
            pid=record.process.pid if record.process and runs else None,
            kernel=guest.kernel if guest else "",
        )
    reason = record.reason or (problem if runs else "")
    if runs and record.spec is not None and record.spec.kernel is None:
        reason = reason or "no agent answers: it boots its own system"
    return Vm(
        id=record.id,
        name=record.name,
        status=record.state.value,
        status_reason=reason,
        health=guest.health if guest and runs else "unknown",
        health_reason=guest.health_reason if guest and runs else "",
        checks=guest.checks if guest and runs else [],
        processes=guest.processes if guest and runs else [],
        warnings=[*(guest.warnings if guest else []), *(find_warnings(record) if runs else [])],
        plugin=PluginReference(name=record.plugin_name, version=record.plugin_version),
        resources=record.definition.resources,
        network=record.definition.network,
        ip=record.address,
        url=make_url(record, domain.plugins.load(record.plugin_reference).manifest),
        ports=list(record.ports),
        agent=record.agent,
        hypervisor=hypervisor,
        cloud_init=guest.cloud_init
        if guest
        else Vm.model_fields["cloud_init"].get_default(call_default_factory=True),
        secrets=[attached.name for attached in record.definition.secrets],
        labels=record.definition.labels,
        restart=record.definition.restart,
        exit_code=record.exit_code,
        last_console_lines=list(record.last_lines),
        created_at=record.created_at,
        started_at=record.started_at,
    )
