# SPDX-License-Identifier: Apache-2.0
"""cosign's older form: a document that names an artifact, and beside it the document's signature.

The document's "docker-reference" is not compared: it says where the artifact was when it was signed, and a copy in
another registry has the same digest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from volant.signatures.keys import PrivateKey, PublicKey, is_signed, sign

KIND = "cosign container image signature"


def make_document(repository: str, digest: str) -> bytes:
    """`digest`: of the artifact's manifest, as sha256:…"""
    critical = {
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": KIND,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def sign_document(key: PrivateKey, document: bytes) -> str:
    return base64.b64encode(sign(key, document)).decode()


def is_of(document: bytes, digest: str) -> bool:
    """Whether the document names this artifact."""
    try:
        critical = json.loads(document)["critical"]
        return bool(critical["type"] == KIND and critical["image"]["docker-manifest-digest"] == digest)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def is_trusted(keys: Sequence[PublicKey], document: bytes, signature: str, digest: str) -> bool:
    """Whether one of the keys signed this document, and it names the artifact."""
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return is_of(document, digest) and any(is_signed(key, raw, document) for key in keys)
