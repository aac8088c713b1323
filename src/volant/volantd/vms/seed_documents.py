# SPDX-License-Identifier: Apache-2.0
"""What a whole-system VM is told by its NoCloud seed, as a pure function of its record and its plugin.

No agent of ours runs in such a guest, so name, keys and address reach it this way or not at all.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.guest_settings import make_cloud_init, make_guest_network
from volant.volantd.vms.keys import read_public_key
from volant.volantd.vms.meta_data import make_meta_data
from volant.volantd.vms.record import VmRecord
from volant.volantd.vms.volumes import make_mounts


@dataclass(frozen=True, slots=True)
class SeedDocuments:
    user_data: bytes
    meta_data: str
    vendor_data: str
    network_config: str


def make_seed_documents(record: VmRecord, plugin: StoredPlugin) -> SeedDocuments:
    """The person's or plugin's own documents where there are some; JSON, being YAML, for those of ours."""
    given = make_cloud_init(record, plugin)
    user_data = base64.b64decode(given.user_data_base64) if given else b""
    # Keys also travel as meta-data, from where cloud-init takes them whatever the user-data says.
    meta_data = json.loads(given.meta_data) if given else make_meta_data(record, "")
    # The first lets in whom the daemon lets in (`own_sshd`).
    meta_data["public-keys"] = [
        f"{read_public_key(record.control_key)} volantd",
        *record.definition.ssh_keys,
        *list_keys(meta_data.get("public-keys")),
    ]
    return SeedDocuments(
        user_data=user_data or b"#cloud-config\n{}\n",
        meta_data=json.dumps(meta_data) + "\n",
        vendor_data=make_vendor_data(record),
        network_config=(given.network_config if given else "") or make_network_config(record),
    )


def list_keys(given: object) -> list[str]:
    """Keys in any of the forms that cloud-init takes: lines, a list, or either of them by name."""
    if isinstance(given, str):
        return given.splitlines()
    if isinstance(given, dict):
        return [key for value in given.values() for key in list_keys(value)]
    return [key for key in given if isinstance(key, str)] if isinstance(given, list) else []


def make_vendor_data(record: VmRecord) -> str:
    """What we want where user-data says nothing else: the host key that we know, and root's log-in by keys."""
    mounts = [
        # Named by udev after the disk's serial number.
        [f"/dev/disk/by-id/virtio-{mount.serial}", mount.target, mount.fstype, _list_options(mount.read_only)]
        for mount in make_mounts(record)
    ]
    config: dict[str, object] = {
        "disable_root": False,
        "ssh_keys": {"ed25519_private": record.host_key, "ed25519_public": read_public_key(record.host_key)},
    }
    if mounts:
        config["mounts"] = mounts
    return f"#cloud-config\n{json.dumps(config)}\n"


def _list_options(read_only: bool) -> str:
    return "ro,nofail" if read_only else "defaults,nofail"


def make_network_config(record: VmRecord) -> str:
    """Netplan's version 2. Only on the bridge, where nothing answers DHCP, does a guest have to be told."""
    if record.definition.network != "bridged":
        return ""
    network = make_guest_network(record)
    interface = network.interfaces[0]
    link = {
        "match": {"macaddress": interface.mac},
        "addresses": interface.addresses,
        "routes": [
            {"to": to, "via": via}
            for to, via in (("0.0.0.0/0", interface.gateway), ("::/0", interface.gateway6))
            if via is not None
        ],
        "nameservers": {"addresses": network.nameservers},
    }
    return json.dumps({"version": 2, "ethernets": {"nic0": link}}) + "\n"
