# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.fledge.sources.manifest import choose_manifest, matches_tag, parse_json, parse_platform


def entry(platform: str, **more: Any) -> dict[str, Any]:
    parts = platform.split("/")
    described = dict(zip(("os", "architecture", "variant"), parts, strict=False))
    return {"digest": platform, "platform": described, **more}


def test_variants_are_preferred_not_required() -> None:
    index = {"manifests": [entry("linux/arm/v6"), entry("linux/arm/v7"), entry("linux/arm")]}
    assert choose_manifest(index, "it", "linux/arm/v7")["digest"] == "linux/arm/v7"
    assert choose_manifest(index, "it", "linux/arm")["digest"] == "linux/arm"
    assert (
        choose_manifest({"manifests": index["manifests"][:2]}, "it", "linux/arm")["digest"] == "linux/arm/v6"
    )
    with pytest.raises(InvalidInput, match="no image for linux/arm/v5"):
        choose_manifest({"manifests": index["manifests"][:2]}, "it", "linux/arm/v5")


def test_what_is_no_image_is_passed_over() -> None:
    index = {"manifests": [entry("linux/amd64", artifactType="application/sbom"), entry("unknown/unknown")]}
    with pytest.raises(InvalidInput, match="no image"):
        choose_manifest(index, "it", "linux/amd64")
    index["manifests"].append(entry("linux/riscv64"))
    assert choose_manifest(index, "it", None)["digest"] == "linux/riscv64", "the only image there is"


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


def test_half_a_surrogate_pair_is_read_as_docker_reads_it() -> None:
    assert parse_json(rb'{"\ud800": ["a\udfffb", "\ud83d\ude00"]}') == {"\ufffd": ["a\ufffdb", "\U0001f600"]}
    assert parse_json(b'["\xed\xa0\x80", "\xc3\xa9"]') == ["\ufffd", "\xe9"]
