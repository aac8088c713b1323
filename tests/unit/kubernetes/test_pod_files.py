# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from support.fake_cluster import make_pod
from volant.kubernetes.environment import Fields
from volant.kubernetes.pod_files import GuestFile, make_files, place_files
from volant.kubernetes.references import Found, Missing, Reference, get_container, get_spec

KEYS = Reference("Secret", "keys")


def list_files(
    items: list[dict[str, object]] | None, found: Found, *, optional: bool = False
) -> list[GuestFile]:
    volume = {
        "name": "v",
        "secret": {"secretName": "keys", "defaultMode": 0o400, "items": items, "optional": optional},
    }
    pod = make_pod({"volumes": [volume]}, volumeMounts=[{"name": "v", "mountPath": "/keys"}])
    return list(make_files(get_spec(pod), get_container(pod), Fields(pod, "", "", ""), found))


def test_all_keys_or_those_that_are_named() -> None:
    found = Found({KEYS: {"a": b"1", "b": b"2"}})
    assert list_files(None, found) == [GuestFile("/keys/a", b"1", 0o400), GuestFile("/keys/b", b"2", 0o400)]
    named = [{"key": "b", "path": "x/y", "mode": 0o640}]
    assert list_files(named, found) == [GuestFile("/keys/x/y", b"2", 0o640)]
    with pytest.raises(Missing):
        list_files([{"key": "c", "path": "c"}], found)
    assert list_files([{"key": "c", "path": "c"}], Found(), optional=True) == []


def test_files_are_given_to_the_daemon_with_their_modes() -> None:
    (placed,) = place_files([GuestFile("/a", b"\xff", 0o600)])
    assert (placed["path"], placed["content_base64"], placed["mode"]) == ("/a", "/w==", 0o600)
