# SPDX-License-Identifier: Apache-2.0
"""Which kind of hypervisor a new VM is made for, and whether that kind can do what it is to do."""

from __future__ import annotations

from volant.errors import Conflict
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.record import VmDefinition, VmRecord

AUTO = "auto"


def choose_hypervisor(
    domain: Domain, request: NewVm, plugin: StoredPlugin, definition: VmDefinition
) -> Hypervisor:
    """The kind that is asked for; memory wakes on its own kind; otherwise the first that is installed and can do it, or
    the usual one. Conflict, saying why, where that one cannot."""
    wake = request.origin.wake if request.origin is not None else None
    wanted = request.hypervisor or AUTO
    if wake is not None and wanted not in (AUTO, wake.hypervisor):
        raise Conflict(
            f"cannot create VM {request.name} on {wanted}: the memory that it wakes from is of {wake.hypervisor}",
            resolution="omit --hypervisor",
        )
    kind = wake.hypervisor if wake is not None else wanted
    chosen = _find_first(domain, plugin, definition) if kind == AUTO else domain.find_hypervisor(kind)
    if (obstacle := find_obstacle(chosen, plugin, definition)) is not None:
        reason, resolution = obstacle
        raise Conflict(f"cannot create VM {request.name} on {chosen.kind}: {reason}", resolution=resolution)
    return chosen


def check_change(domain: Domain, record: VmRecord, definition: VmDefinition) -> None:
    """Conflict where a VM's hypervisor cannot do what it is to be from now on."""
    chosen = domain.find_hypervisor(record.hypervisor)
    obstacle = find_obstacle(chosen, domain.plugins.load(record.plugin_reference), definition)
    if obstacle is not None:
        reason, resolution = obstacle
        raise Conflict(f"cannot change VM {record.name} on {chosen.kind}: {reason}", resolution=resolution)


def _find_first(domain: Domain, plugin: StoredPlugin, definition: VmDefinition) -> Hypervisor:
    architecture = definition.architecture or host_architecture()
    for hypervisor in domain.hypervisors:
        if hypervisor.is_installed(architecture) and find_obstacle(hypervisor, plugin, definition) is None:
            return hypervisor
    return domain.hypervisor


def find_obstacle(
    hypervisor: Hypervisor, plugin: StoredPlugin, definition: VmDefinition
) -> tuple[str, str] | None:
    """What a kind of hypervisor cannot do for such a VM, and what to do instead; None where it can."""
    can = hypervisor.capabilities
    qemu = "use QEMU: --hypervisor qemu"
    if plugin.boot == "firmware" and not can.firmware:
        return "it boots no disks with a system of their own", qemu
    if definition.network == "user" and not can.user_network:
        # Its other way without rights, vhost-user, is none that passt of Debian 12 knows.
        network = "--network bridged (after volar setup network), or --network vsock for none"
        return "it has no user-mode network, only tap devices of a bridge", network
    if definition.suspend_when_idle_seconds and not (can.snapshot and can.restore):
        return "its VMs cannot be suspended, and this one would be when it is idle", qemu
    if definition.suspend_when_idle_seconds and plugin.boot == "firmware":
        return "a plugin with a system of its own cannot be suspended when it is idle", "leave that out"
    if definition.architecture not in (None, host_architecture()) and not can.emulation:
        return f"it emulates no {definition.architecture}", qemu
    if any(secret.uid is not None for secret in definition.secrets) and not can.knows_secret_users:
        return "it does not tell which user of the guest asks for a secret", qemu
    if definition.mounts and not can.folders:
        return "it has no stream for folders of the host", qemu
    if definition.mounts and plugin.boot == "firmware":
        return "in a system of its own no agent mounts folders of the host", "leave --mount out"
    if definition.disk_bytes_per_second and not can.disk_limits:
        return "it does not bound what disks read and write", qemu
    return None
