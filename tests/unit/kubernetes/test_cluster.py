# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.kubernetes.cluster import read_ca


def write(path: Path, **cluster: Any) -> Path:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.9:6443", **cluster}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def test_the_clusters_authority_is_in_the_file_or_beside_it(tmp_path: Path) -> None:
    data = base64.b64encode(b"inside").decode()
    assert read_ca(write(tmp_path / "a", **{"certificate-authority-data": data})) == b"inside"
    (tmp_path / "ca.crt").write_bytes(b"beside")
    assert read_ca(write(tmp_path / "b", **{"certificate-authority": "ca.crt"})) == b"beside"
    with pytest.raises(InvalidInput, match="names no certificate authority"):
        read_ca(write(tmp_path / "c"))
