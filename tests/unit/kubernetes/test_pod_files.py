# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from support.fake_cluster import make_pod
from volant.kubernetes.environment import Fields
from volant.kubernetes.pod_files import GuestFile, make_changing_files, make_files, place_files
from volant.kubernetes.references import (
    Found,
    Missing,
    Reference,
    Refused,
    TokenRequest,
    get_container,
    get_spec,
)

KEYS = Reference("Secret", "keys")
FOLDER = GuestFile("/keys", b"", 0o755, "memory")
TOKENS = Found(tokens={TokenRequest("", 3600): "ey.J.h"})


def list_files(found: Found, *volumes: dict[str, Any], **spec: Any) -> list[GuestFile]:
    """Of volumes that are mounted at their names."""
    named = [{"name": f"v{number}", **volume} for number, volume in enumerate(volumes)]
    mounts = [{"name": one["name"], "mountPath": one.pop("at", "/keys")} for one in named]
    pod = make_pod({"volumes": named, **spec}, volumeMounts=mounts)
    return make_files(get_spec(pod), get_container(pod), Fields(pod, "", "", ""), found)


def make_secret(items: list[dict[str, Any]] | None, *, optional: bool = False) -> dict[str, Any]:
    return {"secret": {"secretName": "keys", "defaultMode": 0o400, "items": items, "optional": optional}}


def test_all_keys_or_those_that_are_named() -> None:
    found = Found({KEYS: {"a": b"1", "b": b"2"}})
    assert list_files(found, make_secret(None)) == [
        FOLDER, GuestFile("/keys/a", b"1", 0o400), GuestFile("/keys/b", b"2", 0o400),
    ]  # fmt: skip
    named = [{"key": "b", "path": "x/y", "mode": 0o640}]
    assert list_files(found, make_secret(named)) == [FOLDER, GuestFile("/keys/x/y", b"2", 0o640)]
    missing = [{"key": "c", "path": "c"}]
    with pytest.raises(Missing):
        list_files(found, make_secret(missing))
    assert list_files(Found(), make_secret(missing, optional=True)) == [FOLDER]


def test_empty_folders_are_everybodys_and_mounted_before_what_is_in_them() -> None:
    inner = {**make_secret(None), "at": "/work/keys"}
    volumes = (inner, {"emptyDir": {}, "at": "/work"}, {"emptyDir": {"medium": "Memory"}, "at": "/fast"})
    assert list_files(Found({KEYS: {"a": b"1"}}), *volumes) == [
        GuestFile("/fast", b"", 0o777, "memory"), GuestFile("/work", b"", 0o777, "folder"),
        GuestFile("/work/keys", b"", 0o755, "memory"), GuestFile("/work/keys/a", b"1", 0o400),
    ]  # fmt: skip


def test_the_group_of_volumes_may_read_them() -> None:
    security = {"fsGroup": 1001}
    found = Found({KEYS: {"a": b"1"}})
    assert list_files(found, make_secret(None), {"emptyDir": {}, "at": "/w"}, securityContext=security) == [
        GuestFile("/keys", b"", 0o2755, "memory", gid=1001), GuestFile("/w", b"", 0o2777, "folder", gid=1001),
        GuestFile("/keys/a", b"1", 0o440, gid=1001),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("security", "token"),
    [
        ({}, GuestFile("/keys/token", b"ey.J.h", 0o644)),
        ({"runAsUser": 1000}, GuestFile("/keys/token", b"ey.J.h", 0o600, uid=1000)),
        ({"fsGroup": 7}, GuestFile("/keys/token", b"ey.J.h", 0o640, gid=7)),
    ],
)
def test_a_token_is_its_users_own(security: dict[str, int], token: GuestFile) -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    assert list_files(TOKENS, volume, securityContext=security)[1] == token
    with pytest.raises(Missing):
        list_files(Found(), volume)
    with pytest.raises(Refused):
        list_files(Found(), {"projected": {"sources": [{}]}})


def test_what_may_change_is_all_but_tokens_and_what_is_not_there() -> None:
    settings = {"sources": [{"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "settings"}}]}
    volumes = [{"name": "keys", **make_secret(None)}, {"name": "settings", "projected": settings}]
    mounts = [{"name": "keys", "mountPath": "/keys"}, {"name": "settings", "mountPath": "/settings"}]
    pod = make_pod({"volumes": volumes}, volumeMounts=mounts)
    found = Found({Reference("ConfigMap", "settings"): {"a": b"1"}})
    fields = Fields(pod, "", "", "")
    assert make_changing_files(get_spec(pod), get_container(pod), fields, found) == {
        "/settings/a": GuestFile("/settings/a", b"1", 0o644)
    }


def test_files_are_given_to_the_daemon_with_owner_and_mode() -> None:
    (placed,) = place_files([GuestFile("/a", b"\xff", 0o600, uid=5, gid=6)])
    assert placed == {
        "path": "/a", "kind": "file", "content_base64": "/w==", "secret": None, "mode": 0o600, "uid": 5, "gid": 6,
    }  # fmt: skip
