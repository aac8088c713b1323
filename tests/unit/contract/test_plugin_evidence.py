# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

from volant.contract.plugin_evidence import find_bundle, write_line
from volant.volantd.plugins.evidence import read_evidence


def test_the_daemon_reads_what_is_written() -> None:
    line = write_line("r.io/web:1", b'{"layers": []}', [(b"document", "c2ln")], [b"bundle"])
    stream = io.BytesIO(line + b"archive")
    evidence = read_evidence(stream)
    assert (evidence.reference, evidence.manifest) == ("r.io/web:1", '{"layers": []}')
    assert [(each.content, each.signature) for each in evidence.documents] == [(b"document", "c2ln")]
    assert evidence.bundles == [b"bundle"]
    assert stream.read() == b"archive"


def test_the_signature_beside_a_file(tmp_path: Path) -> None:
    assert find_bundle(tmp_path / "web.tar.gz") is None
    (tmp_path / "web.tar.gz.sigstore.json").write_bytes(b"{}")
    assert find_bundle(tmp_path / "web.tar.gz") == b"{}"
