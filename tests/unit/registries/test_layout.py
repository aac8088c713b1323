# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from volant.registries.layout import MANIFEST_TYPE, Layout, find_blob


def test_blobs_lie_under_their_digest(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    source = io.BytesIO(b"abcde")
    parts = [layout.write(source, 3), layout.write(source, 3), layout.write(source, 3)]
    assert [part.get("size") for part in parts] == [3, 2, None]
    assert parts[0]["digest"] == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert find_blob(tmp_path, parts[1]["digest"]).read_bytes() == b"de"


def test_it_is_of_one_manifest(tmp_path: Path) -> None:
    described = Layout(tmp_path).write_manifest({"mediaType": MANIFEST_TYPE, "layers": []})
    content = find_blob(tmp_path, described["digest"]).read_bytes()
    assert (json.loads(content)["layers"], len(content)) == ([], described["size"])
    (entry,) = json.loads((tmp_path / "index.json").read_bytes())["manifests"]
    assert entry["digest"] == described["digest"]
