# SPDX-License-Identifier: Apache-2.0
"""A VM's record, for tests of what is made of one."""

from __future__ import annotations

from volant.volantd.vms.record import AgentFacts, VmDefinition, VmRecord, VmResources
from volant.volantd.vms.states import VmState


def make_record(**definition: object) -> VmRecord:
    return VmRecord(
        id="1f2e",
        name="my_vm",
        state=VmState.CREATED,
        reason="",
        wanted=False,
        plugin_name="system",
        plugin_version="1.0.0",
        definition=VmDefinition.model_validate(
            {"resources": VmResources(vcpu=1, memory_mb=256), "network": "user", **definition}
        ),
        address="192.168.127.100",
        mac="52:54:00:00:00:01",
        ports=(),
        control_key="",
        host_key="",
        hypervisor="qemu",
        process=None,
        spec=None,
        agent=AgentFacts(),
        guest=None,
        last_lines=(),
        exit_code=None,
        created_at="",
        started_at=None,
        deleting=False,
        restarts=0,
        pending=(),
    )
