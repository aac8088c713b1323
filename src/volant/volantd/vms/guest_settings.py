# SPDX-License-Identifier: Apache-2.0
"""A VM's guest.json: pure functions of its record and its plugin."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from volant.contract.guest_config import (
    SECRETS_PORT,
    CloudInitDocuments,
    Control,
    GuestConfig,
    GuestFile,
    GuestNetwork,
    GuestWorkload,
    Interface,
    Root,
    SecretPort,
    Ssh,
)
from volant.contract.image_config import ImageHealthcheck
from volant.contract.manifest import CloudInitDocument, Workload
from volant.contract.workload_api import HOST_GATEWAY
from volant.volantd.hypervisors.base import ControlTransport, Nic, SharedNic
from volant.volantd.network import bridge_ipv6, user_mode
from volant.volantd.network.bridge import GATEWAY, SUBNET
from volant.volantd.network.shared import network as shared
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.folders import make_host_folders
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.meta_data import make_meta_data
from volant.volantd.vms.record import StoredHealthCheck, VmDefinition, VmRecord
from volant.volantd.vms.volumes import make_mounts

ROOT_SERIAL = "root"
NANOSECONDS = 1_000_000_000


def make_guest_config(
    record: VmRecord,
    plugin: StoredPlugin,
    modules: Sequence[str],
    transport: ControlTransport = "virtio-serial",
    nics: Sequence[Nic] = (),
) -> GuestConfig:
    """`nics`: as its machine has them."""
    definition = record.definition
    return GuestConfig(
        vm_id=record.id,
        vm_name=record.name,
        hostname=definition.workload.hostname or record.name.replace("_", "-"),
        root=Root(serial=ROOT_SERIAL) if plugin.kind == "rootfs" else None,
        network=add_hosts(make_guest_network(record, nics), definition.workload.extra_hosts),
        control=Control(
            transport=transport,
            host_key=record.host_key,
            authorized_keys=[read_public_key(record.control_key)],
        ),
        ssh=Ssh(listen_port=22 if definition.ssh_keys else None, authorized_keys=definition.ssh_keys),
        mounts=make_mounts(record),
        folders=make_host_folders(record),
        secrets=_make_secret_ports(record),
        files=[GuestFile(**file.model_dump()) for file in definition.placed_files],
        workload=make_workload(plugin.manifest.workload, definition),
        health_check=plugin.manifest.health_check,
        cloud_init=make_cloud_init(record, plugin),
        unix_time_nanoseconds=time.time_ns(),
        modules=list(modules),
    )


def make_workload(workload: Workload, definition: VmDefinition) -> GuestWorkload:
    """The plugin's workload with what was asked for at the VM's creation."""
    asked = definition.workload
    chosen: dict[str, Any] = {
        "env": {**workload.env, **definition.env},
        "run_once": definition.run_once,
        "always": definition.restart in ("always", "unless-stopped"),
        "groups": asked.groups,
        "message_path": asked.message_path,
        "stdin": asked.stdin,
        "stdin_once": asked.stdin_once,
        "tty": asked.tty,
        "stop_signal": asked.stop_signal,
        "stop_timeout_seconds": asked.stop_timeout_seconds,
        "healthcheck": make_healthcheck(asked.health_check),
    }
    if asked.working_dir:
        chosen["workdir"] = asked.working_dir
    if asked.user:
        chosen["user"] = asked.user
    if definition.entrypoint:
        chosen["entrypoint"] = [*definition.entrypoint, *definition.command]
    elif definition.command:
        chosen["command"] = definition.command
    return GuestWorkload.model_validate({**workload.model_dump(exclude_unset=True), **chosen})


def make_healthcheck(asked: StoredHealthCheck | None) -> ImageHealthcheck | None:
    """As an image has it: nanoseconds, and 0 for Docker's default."""
    if asked is None:
        return None
    return ImageHealthcheck(
        test=asked.test,
        interval=int((asked.interval_seconds or 0) * NANOSECONDS),
        timeout=int((asked.timeout_seconds or 0) * NANOSECONDS),
        start_period=int((asked.start_period_seconds or 0) * NANOSECONDS),
        retries=asked.retries or 0,
    )


def add_hosts(network: GuestNetwork, names: Mapping[str, str]) -> GuestNetwork:
    """`names` with their addresses for /etc/hosts; HOST_GATEWAY is the way out, and nobody where there is none."""
    gateway = next((each.gateway for each in network.interfaces if each.gateway), None)
    hosts = {address: list(known) for address, known in network.hosts.items()}
    for name, address in names.items():
        found = gateway if address == HOST_GATEWAY else address
        if found is not None:
            hosts.setdefault(found, []).append(name)
    return network.model_copy(update={"hosts": hosts})


def make_guest_network(record: VmRecord, nics: Sequence[Nic] = ()) -> GuestNetwork:
    for nic in nics:
        if isinstance(nic, SharedNic):
            interface = Interface(mac=record.mac, mode="static", **_make_shared_addresses(nic))
            return GuestNetwork(interfaces=[interface], nameservers=[str(shared.GATEWAY)])
    match record.definition.network:
        case "vsock":
            return GuestNetwork()
        case "dhcp":
            return GuestNetwork(interfaces=[Interface(mac=record.mac, mode="dhcp")])
        case "bridged":
            interface = Interface(mac=record.mac, mode="static", **_make_bridged_addresses(record.address))
            nameserver = str(GATEWAY)
        case "user":
            address = f"{user_mode.GUEST_ADDRESS}/{user_mode.PREFIX_LENGTH}"
            interface = Interface(
                mac=record.mac, mode="static", addresses=[address], gateway=user_mode.GATEWAY
            )
            nameserver = user_mode.NAME_SERVER
    return GuestNetwork(interfaces=[interface], nameservers=[nameserver])


def _make_bridged_addresses(lease: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"addresses": [f"{lease}/{SUBNET.prefixlen}"], "gateway": str(GATEWAY)}
    prefix = bridge_ipv6.find_prefix()
    if prefix is None or lease is None:
        return found
    found["addresses"].append(f"{bridge_ipv6.make_address(prefix, lease)}/{prefix.prefixlen}")
    return {**found, "gateway6": str(bridge_ipv6.make_address(prefix, GATEWAY))}


def _make_shared_addresses(nic: SharedNic) -> dict[str, Any]:
    found: dict[str, Any] = {
        "addresses": [f"{nic.address}/{shared.SUBNET.prefixlen}"],
        "gateway": str(shared.GATEWAY),
    }
    if not nic.ipv6_address:
        return found
    network = ipaddress.IPv6Interface(f"{nic.ipv6_address}/{bridge_ipv6.PREFIX_LENGTH}").network
    found["addresses"].append(f"{nic.ipv6_address}/{bridge_ipv6.PREFIX_LENGTH}")
    return {**found, "gateway6": str(bridge_ipv6.make_address(network, shared.GATEWAY))}


def _make_secret_ports(record: VmRecord) -> list[SecretPort]:
    """Older versions let secrets for different users share a port: only root, who reads everything, gets these."""
    users: dict[int, set[int | None]] = {}
    for attached in record.definition.secrets:
        users.setdefault(attached.port or SECRETS_PORT, set()).add(attached.uid)
    return [
        SecretPort(port=port, uid=uids.pop() if len(uids) == 1 else 0) for port, uids in sorted(users.items())
    ]


def make_cloud_init(record: VmRecord, plugin: StoredPlugin) -> CloudInitDocuments | None:
    """The NoCloud documents: the person's user-data before the plugin's own; None where there is neither."""
    manifest = plugin.manifest.cloud_init
    user_data = base64.b64decode(record.definition.user_data_base64)
    if not user_data and manifest is not None:
        user_data = _read_document(manifest.user_data, plugin).encode("utf-8", "surrogateescape")
    if not user_data and manifest is None:
        return None
    meta_data = make_meta_data(record, _read_document(manifest.meta_data, plugin) if manifest else "")
    return CloudInitDocuments(
        instance_id=record.id,
        user_data_base64=base64.b64encode(trim_user_data(user_data)).decode(),
        meta_data=json.dumps(meta_data, default=str) + "\n",
        network_config=_read_document(manifest.network_config, plugin) if manifest else "",
    )


def _read_document(document: CloudInitDocument | None, plugin: StoredPlugin) -> str:
    if document is None:
        return ""
    if document.path is not None:
        return plugin.files.get(document.path, "")
    return document.content or ""


def trim_user_data(data: bytes) -> bytes:
    """Drop comments and blank lines above `#cloud-config`, which would keep cloud-init from knowing the kind."""
    match = re.match(rb"(?:[ \t]*(?:#(?!cloud-config\b)(?!!)[^\n]*)?\r?\n)*(?=#cloud-config\b)", data)
    return data[match.end() :] if match else data
