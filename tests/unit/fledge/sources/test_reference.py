# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.fledge.sources.manifest import matches_tag, parse_platform
from volant.fledge.sources.reference import split_reference


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
    ("platform", "parts"),
    [
        ("linux/arm64/v8", ("linux", "arm64", "v8")),
        ("linux/amd64", ("linux", "amd64", "")),
        ("arm64", ("linux", "arm64", "")),
    ],
)
def test_platforms(platform: str, parts: tuple[str, str, str]) -> None:
    assert parse_platform(platform) == parts


@pytest.mark.parametrize("platform", ["", "a/b/c/d", "linux//v8"])
def test_what_is_no_platform(platform: str) -> None:
    with pytest.raises(InvalidInput):
        parse_platform(platform)


def test_tags_match_as_people_mean_them() -> None:
    saved = "docker.io/library/my-app:1.2.0"
    assert all(matches_tag(saved, tag) for tag in (saved, "my-app:1.2.0", "library/my-app:1.2.0", "1.2.0"))
    assert matches_tag("docker.io/library/my-app:latest", "my-app")
    assert not any(matches_tag(saved, tag) for tag in ("my-app", "app:1.2.0", "2.0"))
