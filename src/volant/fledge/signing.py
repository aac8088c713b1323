# SPDX-License-Identifier: Apache-2.0
"""The signature beside a plugin's file, as `cosign sign-blob --bundle` writes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from volant.contract.plugin_evidence import BUNDLE_SUFFIX
from volant.signatures.bundle import make_file_bundle
from volant.signatures.keys import PrivateKey
from volant.whole_file import write_whole_file


def sign_file(plugin: Path, key: PrivateKey) -> Path:
    """Where the signature is."""
    with plugin.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    place = plugin.with_name(plugin.name + BUNDLE_SUFFIX)
    write_whole_file(place, make_file_bundle(key, digest), mode=0o644)
    return place
