# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest

from volant.contract.manifest import Manifest
from volant.volantd.hypervisors.base import SharedNic
from volant.volantd.network import bridge_ipv6
from volant.volantd.network.types import PublishedPort
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.vms.guest_settings import make_guest_config, make_guest_network, trim_user_data
from volant.volantd.vms.keys import make_private_key, read_public_key
from volant.volantd.vms.networking import make_url
from volant.volantd.vms.record import AgentFacts, AttachedSecret, VmDefinition, VmRecord, VmResources
from volant.volantd.vms.states import VmState


def make_record(**definition: Any) -> VmRecord:
    address = {"user": "127.127.1.2", "bridged": "192.168.127.100"}.get(definition.get("network", "user"))
    return VmRecord(
        id="0123", name="my_vm", state=VmState.CREATED, reason="", wanted=False, plugin_name="web",
        plugin_version="1.0.0",
        definition=VmDefinition.model_validate(
            {"resources": VmResources(vcpu=1, memory_mb=256), "network": "user", **definition}
        ),
        address=address, mac="52:54:00:00:00:01",
        ports=(PublishedPort(host_ip="127.127.1.2", host_port=8080, guest_port=80),),
        control_key=make_private_key(), host_key=make_private_key(), hypervisor="qemu", process=None,
        spec=None, agent=AgentFacts(), guest=None, last_lines=(), exit_code=None,
        created_at="", started_at=None, deleting=False,
        restarts=0, pending=(),
    )  # fmt: skip


def make_plugin(files: dict[str, str] | None = None, **manifest: Any) -> StoredPlugin:
    parsed = Manifest.model_validate({"name": "web", "version": "1.0.0", **manifest})
    return StoredPlugin(
        manifest=parsed,
        kind="rootfs",
        boot="kernel",
        format="qcow2",
        payload=Path("/p"),
        enabled=True,
        files=files or {},
    )


def test_a_port_that_older_versions_gave_to_several_users_is_roots() -> None:
    record = make_record(
        secrets=[
            AttachedSecret(name="a", port=9001, uid=33),
            AttachedSecret(name="b", port=9001),
            AttachedSecret(name="c", uid=7),
            AttachedSecret(name="d", uid=7),
        ]
    )
    config = make_guest_config(record, make_plugin(), [])
    assert [(port.port, port.uid) for port in config.secrets] == [(9000, 7), (9001, 0)]


def test_what_was_asked_for_takes_the_place_of_what_the_plugin_says() -> None:
    record = make_record(
        workload={
            "working_dir": "/srv", "user": "33:33", "groups": [7], "message_path": "/dev/message",
            "hostname": "db.example", "stop_signal": "SIGINT",
            "stop_timeout_seconds": 2.5, "extra_hosts": {"up": "host-gateway", "a": "10.9.8.7", "b": "10.9.8.7"},
            "health_check": {"test": ["CMD", "true"], "interval_seconds": 0.5, "retries": 7},
        },
        placed_files=[{"path": "/etc/app", "content_base64": "aGk="}, {"path": "/run/secrets/k", "secret_port": 9}],
    )  # fmt: skip
    config = make_guest_config(record, make_plugin(workload={"workdir": "/", "user": "root"}), [])
    assert config.hostname == "db.example"
    assert (config.workload.workdir, config.workload.user) == ("/srv", "33:33")
    assert (config.workload.groups, config.workload.message_path) == ([7], "/dev/message")
    assert (config.workload.stop_signal, config.workload.stop_timeout_seconds) == ("SIGINT", 2.5)
    assert config.network.hosts == {config.network.interfaces[0].gateway: ["up"], "10.9.8.7": ["a", "b"]}
    check = config.workload.healthcheck
    assert check is not None
    assert (check.test, check.interval, check.timeout, check.retries) == (["CMD", "true"], 500_000_000, 0, 7)
    assert [(file.path, file.content_base64, file.secret_port) for file in config.files] == [
        ("/etc/app", "aGk=", None),
        ("/run/secrets/k", "", 9),
    ]


@pytest.mark.parametrize(
    ("restart", "always"),
    [("no", False), ("on-failure:3", False), ("always", True), ("unless-stopped", True)],
)
def test_the_guest_knows_whether_its_command_is_started_again_for_ever(restart: str, always: bool) -> None:
    assert make_guest_config(make_record(restart=restart), make_plugin(), []).workload.always is always


def test_a_vm_without_a_network_has_no_host_to_name() -> None:
    record = make_record(network="vsock", workload={"extra_hosts": {"up": "host-gateway"}})
    assert make_guest_config(record, make_plugin(), []).network.hosts == {}


def test_keys_environment_and_secrets_reach_the_guest_and_private_keys_of_ours_do_not() -> None:
    record = make_record(
        env={"A": "vm"}, secrets=[AttachedSecret(name="k"), AttachedSecret(name="l", port=9001, uid=33)]
    )
    plugin = make_plugin(workload={"env": {"A": "plugin", "B": "plugin"}})
    config = make_guest_config(record, plugin, ["virtio.ko"])
    assert config.workload.env == {"A": "vm", "B": "plugin"}
    assert config.control.host_key == record.host_key
    assert config.control.authorized_keys == [read_public_key(record.control_key)]
    assert record.control_key not in config.model_dump_json()
    assert [(port.port, port.uid) for port in config.secrets] == [(9000, None), (9001, 33)]
    assert config.hostname == "my-vm"
    assert config.ssh.listen_port is None


@pytest.mark.parametrize(
    ("network", "addresses"),
    [("user", ["10.0.2.15/24"]), ("bridged", ["192.168.127.100/24"]), ("dhcp", []), ("vsock", None)],
)
def test_each_mode_has_its_interface(
    network: str, addresses: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_ipv6, "find_prefix", lambda: None)
    interfaces = make_guest_config(make_record(network=network), make_plugin(), []).network.interfaces
    assert [interface.addresses for interface in interfaces] == ([] if addresses is None else [addresses])


def test_on_a_host_with_ipv6_a_bridged_guest_has_an_address_of_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge_ipv6, "find_prefix", lambda: IPv6Network("fd00::/64"))
    (interface,) = make_guest_config(make_record(network="bridged"), make_plugin(), []).network.interfaces
    assert interface.addresses == ["192.168.127.100/24", "fd00::c0a8:7f64/64"]
    assert (interface.gateway, interface.gateway6) == ("192.168.127.1", "fd00::c0a8:7f01")
    (interface,) = make_guest_config(make_record(network="user"), make_plugin(), []).network.interfaces
    assert interface.gateway6 is None


def test_on_the_shared_network_the_gateway_is_one_of_both_families() -> None:
    nic = SharedNic("52:54:00:00:00:01", "vtap0", "10.127.0.1", 1, "fd12:3456:789a:7f::a7f:1")
    for found, gateway6 in ((nic, "fd12:3456:789a:7f::a7e:1"), (replace(nic, ipv6_address=""), None)):
        (interface,) = make_guest_network(make_record(network="user"), [found]).interfaces
        assert (interface.gateway, interface.gateway6) == ("10.126.0.1", gateway6)


def test_the_persons_user_data_wins_and_the_plugins_is_read_from_its_archive() -> None:
    plugin = make_plugin(
        {"user-data": "#cloud-config\na: 1\n"}, cloud_init={"user_data": {"path": "user-data"}}
    )
    given = make_record(user_data_base64=base64.b64encode(b"# mine\n#cloud-config\nb: 2\n").decode())
    for record, expected in ((make_record(), b"#cloud-config\na: 1\n"), (given, b"#cloud-config\nb: 2\n")):
        documents = make_guest_config(record, plugin, []).cloud_init
        assert documents is not None
        assert base64.b64decode(documents.user_data_base64) == expected
        assert documents.instance_id == "0123"
    assert make_guest_config(make_record(), make_plugin(), []).cloud_init is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"# user-data.yaml\n\n#cloud-config\nx: 1\n", b"#cloud-config\nx: 1\n"),
        (b"# a\r\n\r\n#cloud-config\r\n", b"#cloud-config\r\n"),
        (b"#!/bin/sh\n#cloud-config\n", b"#!/bin/sh\n#cloud-config\n"),
        (
            b"Content-Type: multipart/mixed\n\n#cloud-config\n",
            b"Content-Type: multipart/mixed\n\n#cloud-config\n",
        ),
        (b"\x1f\x8b\x00\n#cloud-config", b"\x1f\x8b\x00\n#cloud-config"),
        (b"# only a comment\n", b"# only a comment\n"),
    ],
)
def test_what_stands_above_cloud_config_is_dropped_and_nothing_else(given: bytes, kept: bytes) -> None:
    assert trim_user_data(given) == kept


def test_the_url_is_the_whole_address() -> None:
    http = make_plugin(workload={"type": "http", "port": 80}).manifest
    tcp = make_plugin(workload={"type": "tcp", "port": 5432}).manifest
    assert make_url(make_record(), http) == "http://127.127.1.2:8080"
    everywhere = replace(make_record(), ports=(PublishedPort("0.0.0.0", 8080, 80),))
    assert make_url(everywhere, http) == "http://127.127.1.2:8080"
    assert make_url(make_record(network="bridged"), http) == "http://192.168.127.100"
    assert make_url(make_record(network="bridged"), tcp) == "tcp://192.168.127.100:5432"
    assert make_url(make_record(network="vsock"), http) is None
    assert make_url(make_record(), make_plugin().manifest) is None
