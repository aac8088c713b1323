# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from pathlib import Path

from volant.contract.manifest import Manifest
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.record import AgentFacts, VmDefinition, VmRecord, VmResources
from volant.volantd.vms.seed_documents import make_seed_documents
from volant.volantd.vms.states import VmState

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
    )


def test_name_and_keys_travel_as_meta_data() -> None:
    documents = make_seed_documents(make_record(ssh_keys=["ssh-ed25519 AAAA me"]), PLUGIN)
    assert json.loads(documents.meta_data) == {
        "instance-id": "1f2e",
        "local-hostname": "my-vm",
        "public-keys": ["ssh-ed25519 AAAA me"],
    }
    assert documents.user_data.startswith(b"#cloud-config\n")
    # User mode answers DHCP, which is what cloud-init tries by itself.
    assert documents.network_config == ""


def test_a_persons_user_data_is_passed_on() -> None:
    given = base64.b64encode(b"#cloud-config\nhostname: x\n").decode()
    documents = make_seed_documents(make_record(user_data_base64=given), PLUGIN)
    assert documents.user_data == b"#cloud-config\nhostname: x\n"


def test_on_the_bridge_the_address_is_told() -> None:
    config = json.loads(make_seed_documents(make_record(network="bridged"), PLUGIN).network_config)
    link = config["ethernets"]["nic0"]
    assert config["version"] == 2
    assert link["match"] == {"macaddress": "52:54:00:00:00:01"}
    assert link["addresses"] == ["192.168.127.100/24"]
    assert link["routes"] == [{"to": "0.0.0.0/0", "via": "192.168.127.1"}]
