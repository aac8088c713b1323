# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.fledge.sources.reference import is_loopback_registry, split_reference


@pytest.mark.parametrize(
    ("reference", "transport", "rest"),
    [
        ("alpine:3.19", "docker://", "alpine:3.19"),
        ("localhost:5000/app@sha256:" + "0" * 64, "docker://", "localhost:5000/app@sha256:" + "0" * 64),
        ("docker://ghcr.io/a/b", "docker://", "ghcr.io/a/b"),
        ("docker-daemon:app:1", "docker-daemon:", "app:1"),
        ("containers-storage:localhost/app", "containers-storage:", "localhost/app"),
        ("oci:folder:tag", "oci:", "folder:tag"),
        ("oci-archive:file.tar", "oci-archive:", "file.tar"),
    ],
)
def test_references_as_skopeo_spells_them(reference: str, transport: str, rest: str) -> None:
    assert split_reference(reference) == (transport, rest)


@pytest.mark.parametrize(
    "reference", ["", "--insecure", "two words", "sif:x", "https://example.org/x", "ostree:a@b"]
)
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(InvalidInput):
        split_reference(reference)


@pytest.mark.parametrize(
    ("rest", "is_loopback"),
    [
        ("//localhost:5000/a", True),
        ("127.3.2.1/a/b:c", True),
        ("[::1]:5000/a", True),
        ("localhost.example.org/a", False),
        ("127.0.0.1.example.org/a", False),
        ("library/localhost", False),
    ],
)
def test_plain_http_only_on_this_machine(rest: str, is_loopback: bool) -> None:
    assert is_loopback_registry("docker://", rest) is is_loopback
    assert not is_loopback_registry("docker-daemon:", rest)
