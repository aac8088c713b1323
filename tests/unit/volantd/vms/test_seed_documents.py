# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from support import vm_records
from volant.contract.manifest import Manifest
from volant.volantd.network import bridge_ipv6
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.keys import make_private_key, read_public_key
from volant.volantd.vms.record import AttachedVolume, VmRecord
from volant.volantd.vms.seed_documents import list_keys, make_seed_documents

CONTROL_KEY, HOST_KEY = make_private_key(), make_private_key()
CONTROL_PUBLIC_KEY = f"{read_public_key(CONTROL_KEY)} volantd"
PLUGIN = StoredPlugin(
    manifest=Manifest.model_validate({"name": "system", "version": "1.0.0"}),
    kind="rootfs",
    boot="firmware",
    format="raw",
    payload=Path("/plugin.img"),
    enabled=True,
    files={},
)


def make_record(**definition: object) -> VmRecord:
    return replace(vm_records.make_record(**definition), control_key=CONTROL_KEY, host_key=HOST_KEY)


def test_the_host_key_is_the_one_that_is_pinned_and_user_data_has_the_last_word() -> None:
    kind, _, document = make_seed_documents(make_record(), PLUGIN).vendor_data.partition("\n")
    assert kind == "#cloud-config"
    assert json.loads(document)["ssh_keys"] == {
        "ed25519_private": HOST_KEY,
        "ed25519_public": read_public_key(HOST_KEY),
    }


def test_volumes_are_mounted_by_the_systems_own_means() -> None:
    volumes = [
        AttachedVolume(name="data", id="0123456789ab", target="/data"),
        AttachedVolume(name="logs", id="ba9876543210", target="/logs", read_only=True),
    ]
    _, _, document = make_seed_documents(make_record(volumes=volumes), PLUGIN).vendor_data.partition("\n")
    assert json.loads(document)["mounts"] == [
        ["/dev/disk/by-id/virtio-volume-0123456789ab", "/data", "ext4", "defaults,nofail"],
        ["/dev/disk/by-id/virtio-volume-ba9876543210", "/logs", "ext4", "ro,nofail"],
    ]


def test_keys_in_any_form_that_cloud_init_takes() -> None:
    assert list_keys("a b\nc d") == ["a b", "c d"]
    assert list_keys({"one": "a b", "two": ["c d", 7]}) == ["a b", "c d"]
    assert list_keys(None) == list_keys(7) == []


def test_name_and_keys_travel_as_meta_data() -> None:
    documents = make_seed_documents(make_record(ssh_keys=["ssh-ed25519 AAAA me"]), PLUGIN)
    assert json.loads(documents.meta_data) == {
        "instance-id": "1f2e",
        "local-hostname": "my-vm",
        "public-keys": [CONTROL_PUBLIC_KEY, "ssh-ed25519 AAAA me"],
    }
    assert documents.user_data.startswith(b"#cloud-config\n")
    # User mode answers DHCP, which is what cloud-init tries by itself.
    assert documents.network_config == ""


def test_a_persons_user_data_is_passed_on() -> None:
    given = base64.b64encode(b"#cloud-config\nhostname: x\n").decode()
    documents = make_seed_documents(make_record(user_data_base64=given), PLUGIN)
    assert documents.user_data == b"#cloud-config\nhostname: x\n"


def test_on_the_bridge_the_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge_ipv6, "find_prefix", lambda: None)
    config = json.loads(make_seed_documents(make_record(network="bridged"), PLUGIN).network_config)
    link = config["ethernets"]["nic0"]
    assert config["version"] == 2
    assert link["match"] == {"macaddress": "52:54:00:00:00:01"}
    assert link["addresses"] == ["192.168.127.100/24"]
    assert link["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.127.1"}]
    monkeypatch.setattr(bridge_ipv6, "find_prefix", lambda: IPv6Network("fd00::/64"))
    config = json.loads(make_seed_documents(make_record(network="bridged"), PLUGIN).network_config)
    link = config["ethernets"]["nic0"]
    assert link["addresses"] == ["192.168.127.100/24", "fd00::c0a8:7f64/64"]
    assert link["routes"][1] == {"to": "::/0", "via": "fd00::c0a8:7f01"}


def test_a_plugins_meta_data_is_passed_on_as_this_vms() -> None:
    plugin = replace(
        PLUGIN,
        manifest=Manifest.model_validate(
            {
                "name": "system",
                "version": "1.0.0",
                "cloud_init": {
                    "meta_data": {"content": "instance-id: theirs\nregion: here\nlocal-hostname: web\n"}
                },
            }
        ),
    )
    documents = make_seed_documents(make_record(ssh_keys=["key"]), plugin)
    assert json.loads(documents.meta_data) == {
        "instance-id": "1f2e",
        "local-hostname": "web",
        "region": "here",
        "public-keys": [CONTROL_PUBLIC_KEY, "key"],
    }
