# SPDX-License-Identifier: Apache-2.0
"""What a client may send, and what is refused with its place before anything acts on it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from volant.contract.api import ExecRequest, PublishRequest, SshSessionRequest, VmCreate
from volant.contract.request_values import MOST_USER_DATA_BYTES

# A key of 32 counted bytes, of which nobody has the other half.
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def create(**values: Any) -> VmCreate:
    return VmCreate.model_validate({"name": "web", "plugin": "nginx", **values})


@pytest.mark.parametrize(
    "values",
    [
        {"env": {"A": "x\0y"}},
        {"env": {"A\0": "x"}},
        {"labels": {"\ud800": "x"}},
        {"labels": {"a": "\udfff"}},
        {"name": "web\0"},
        {"publish": [{"guest_port": 80, "host_ip": "127.0.0.1\0"}]},
        {"publish": [{"guest_port": 80, "host_ip": "not an address"}]},
        {"publish": [{"guest_port": 80, "host_ip": "fe80::1%eth0"}]},
        {"publish": [{"guest_port": 80, "host_port": -1}]},
        {"publish": [{"guest_port": 80, "host_port": 70_000}]},
        {"publish": [{"guest_port": 2**40}]},
        {"publish": [{"guest_port": 0}]},
        {"user_data_base64": "é"},
        {"user_data_base64": "!"},
        {"user_data_base64": base64.b64encode(bytes(MOST_USER_DATA_BYTES + 1)).decode()},
        {"ssh_keys": ["junk"]},
        {"ssh_keys": ["ssh-ed25519"]},
        {"ssh_keys": ["ssh-ed25519 AAAA"]},
        {"ssh_keys": [ED25519.replace("ssh-ed25519", "ssh-rsa")]},
        {"ssh_keys": [f"{ED25519}\n{ED25519}"]},
        {"secrets": [{"name": "a", "port": 2**32}]},
        {"secrets": [{"name": "a", "uid": 2**32 - 1}]},
    ],
)
def test_values_without_a_meaning_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        create(**values)


@pytest.mark.parametrize(
    "key", [ED25519, f"{ED25519} me@host", f"  {ED25519}\n", f'from="10.0.0.0/8",no-pty {ED25519} me']
)
def test_a_key_is_one_line_with_options_and_comment(key: str) -> None:
    assert create(ssh_keys=[key]).ssh_keys == [key.strip()]


def test_the_largest_user_data_passes() -> None:
    create(user_data_base64=base64.b64encode(bytes(MOST_USER_DATA_BYTES)).decode())


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_addresses_of_both_families_are_taken(address: str) -> None:
    assert PublishRequest(guest_port=80, host_ip=address).host_ip == address


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e9, 0, -1])
def test_a_time_limit_is_one(seconds: float) -> None:
    with pytest.raises(ValidationError):
        ExecRequest(command=["true"], timeout_seconds=seconds)


def test_a_deep_body_is_no_traceback() -> None:
    deep: Any = "\0"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValidationError):
        create(labels=deep)


def test_a_key_for_a_session_is_looked_at_too() -> None:
    with pytest.raises(ValidationError):
        SshSessionRequest(public_key="junk")


@pytest.mark.parametrize(
    ("secrets", "complaint"),
    [
        ([{"name": "a", "port": 9001, "uid": 33}, {"name": "b", "port": 9001}], "port of its own"),
        ([{"name": "a", "port": 9001}, {"name": "b", "port": 9001}], "port of its own"),
        ([{"name": "a"}, {"name": "b", "port": 9000, "uid": 33}], "port of its own"),
        ([{"name": "a", "uid": 1}, {"name": "b"}], "different users"),
        ([{"name": "a"}, {"name": "a"}], "attached twice"),
    ],
)
def test_secrets_for_different_readers_share_no_port(secrets: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        create(secrets=secrets)


def test_secrets_with_one_reader_share_the_usual_port() -> None:
    create(secrets=[{"name": "a"}, {"name": "b"}, {"name": "c", "port": 9001, "uid": 33}])
