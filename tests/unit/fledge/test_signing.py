# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from pathlib import Path

from support.signing_keys import make_key
from volant.fledge.signing import sign_file
from volant.signatures.bundle import is_file_trusted


def test_a_file_is_signed_beside_it(tmp_path: Path) -> None:
    key = make_key()
    (tmp_path / "web.tar.gz").write_bytes(b"archive")
    place = sign_file(tmp_path / "web.tar.gz", key)
    assert place.name == "web.tar.gz.sigstore.json"
    assert is_file_trusted([key.public_key()], place.read_bytes(), hashlib.sha256(b"archive").digest())
