# SPDX-License-Identifier: Apache-2.0
"""What an uploaded plugin's archive comes with so that the daemon can judge it: one line of JSON before the archive.

{"reference": "registry.example.com/team/web:1", "manifest": "{…}",
 "documents": [{"document_base64": "…", "signature": "…"}], "bundles_base64": ["…"]}    of a plugin from a registry
{"bundles_base64": ["…"]}                                      of a file, as `cosign sign-blob --bundle` signs it
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

CONTENT_TYPE = "application/vnd.volant.plugin-with-evidence"
# The line; a manifest has 4 MiB at most.
MOST_BYTES = 16 << 20
BUNDLE_SUFFIX = ".sigstore.json"
MOST_BUNDLE_BYTES = 1 << 20


def write_line(
    reference: str = "",
    manifest: bytes = b"",
    documents: Sequence[tuple[bytes, str]] = (),
    bundles: Sequence[bytes] = (),
) -> bytes:
    found = {
        "reference": reference,
        "manifest": manifest.decode("utf-8", "replace"),
        "documents": [
            {"document_base64": base64.b64encode(document).decode(), "signature": signature}
            for document, signature in documents
        ],
        "bundles_base64": [base64.b64encode(bundle).decode() for bundle in bundles],
    }
    return json.dumps(found).encode() + b"\n"


def find_bundle(archive: Path) -> bytes | None:
    """The signature beside a plugin's file."""
    try:
        with archive.with_name(archive.name + BUNDLE_SUFFIX).open("rb") as stream:
            return stream.read(MOST_BUNDLE_BYTES)
    except OSError:
        return None
