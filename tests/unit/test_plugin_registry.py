# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from volant.errors import Conflict, InvalidInput
from volant.plugin_registry import (
    ARTIFACT_TYPE,
    PART_TYPE,
    _resumed,
    read_manifest,
)

DIGEST = f"sha256:{'0' * 64}"
PART = {"mediaType": PART_TYPE, "digest": DIGEST, "size": 5}


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"x", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"{}", "an image and no plugin"),
        (json.dumps({"artifactType": ARTIFACT_TYPE, "layers": []}).encode(), "not those of a plugin"),
        (
            json.dumps({"artifactType": ARTIFACT_TYPE, "layers": [{**PART, "size": 1 << 40}]}).encode(),
            "not those",
        ),
        (
            json.dumps(
                {"artifactType": ARTIFACT_TYPE, "layers": [{**PART, "digest": "sha256:../../x"}]}
            ).encode(),
            "not those of a plugin",
        ),
    ],
)
def test_manifests_that_are_no_plugins(manifest: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        read_manifest(manifest, "r.io/a")


def test_a_pull_is_one_programs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path))
    with _resumed("r.io/a"), pytest.raises(Conflict, match="another program"), _resumed("r.io/a"):
        pass
