# SPDX-License-Identifier: Apache-2.0
"""Which VMs are copies of a template in which their workload is up, and what such a template's guest is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from volant.volantd.hypervisors.base import HostSupport, VmSpec
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.templates.shape import list_hardware_addresses
from volant.volantd.templates.workload import NAME, Keys, Workload
from volant.volantd.vms.disks import make_overlay
from volant.volantd.vms.guest_settings import make_guest_config
from volant.volantd.vms.keys import make_private_key, read_public_key
from volant.volantd.vms.record import VmDefinition, VmRecord

# What of a VM its workload does not see, or is told when it becomes that VM, or is of the machine (`find_shape`).
UNSEEN = (
    "ssh_keys", "labels", "restart", "isolated", "disk_bytes_per_second", "suspend_when_idle_seconds", "architecture",
    "kernel", "kernel_arguments",
)  # fmt: skip


def find_workload(
    record: VmRecord, plugin: StoredPlugin, modules: Sequence[str], support: HostSupport, spec: VmSpec
) -> Workload | None:
    """Of the template that this VM can be a copy of, or None where it is to be something else."""
    if not is_plain(record, plugin):
        return None
    addresses = list_hardware_addresses(spec)
    nobody = replace(
        record, id=NAME, name=NAME, mac=addresses[0] if addresses else record.mac,
        definition=record.definition.model_copy(update={"ssh_keys": [], "labels": {}}),
        control_key=make_private_key(), host_key=make_private_key(),
    )  # fmt: skip
    return Workload(
        plugin=record.plugin_reference,
        payload=plugin.payload,
        config=make_guest_config(nobody, plugin, modules, support.control),
        keys=Keys(nobody.control_key, read_public_key(nobody.host_key)),
        make_disk=partial(
            make_overlay, backing=plugin.payload, backing_format=plugin.format, size_bytes=None
        ),
    )


def is_plain(record: VmRecord, plugin: StoredPlugin) -> bool:
    """Whether a workload starts in this VM as it does in all others of the plugin: nobody asked for anything that it
    would see. Bridged VMs have addresses that are told at their start, and user-data is applied to each anew."""
    definition = record.definition
    plain = VmDefinition(resources=definition.resources, network=definition.network)
    unseen = {name: getattr(definition, name) for name in UNSEEN}
    return (
        plugin.manifest.warm == "workload"
        and plugin.manifest.cloud_init is None
        and definition.network in ("user", "vsock")
        and definition == plain.model_copy(update=unseen)
    )
